"""Laws of the checks: nothing held out is learnt, nothing twice, and odd data are refused."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from finetune.refresh import checks, items
from finetune.refresh.checks import Arrived, Known, Sorted
from finetune.refresh.items import Item
from finetune.refresh.settings import Checks, Refresh

NAMES = ("no", "yes")
LENIENT = Checks(max_label_shift=1, max_leaked=1, max_copies=1, max_conflicts=1)
TRAINING = [items.of_text(f"known {number}", number % 2) for number in range(40)]
HELD_OUT = [items.of_text(f"held out {number}", number % 2) for number in range(10)]


def sort(data: list[Item], *, logged: Any = (), limits: Checks = LENIENT, **others: Any) -> Sorted:
    settings = Refresh(data="new", checks=limits)  # type: ignore[arg-type]  # pydantic converts
    known = Known(held_out=HELD_OUT, training=TRAINING, earlier=others.pop("earlier", ()))
    arrived = Arrived(data=data, logged=logged, unlabelled=0, faults=others.pop("faults", ()))
    return checks.sort(arrived, known, NAMES, settings)


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=80))
def test_every_example_is_counted_once_and_learnt_at_most_once(
    rows: list[tuple[int, bool]],
) -> None:
    kinds = ("known", "held out", "new")
    data = [items.of_text(f"{kinds[number % 3]} {number // 3}", int(yes)) for number, yes in rows]
    found = sort(data)
    told = found.findings
    assert told.learn + told.test + told.copies + told.conflicts + told.leaked == len(data)
    new = [item.key for item in (*found.learn, *found.test)]
    assert len(new) == len(set(new)) == found.count
    assert not set(new) & {item.key for item in (*TRAINING, *HELD_OUT)}


def test_case_and_space_make_no_new_example() -> None:
    found = sort([items.of_text("  KNOWN   0 ", 0), items.of_text("Held out 1", 1)]).findings
    assert (found.copies, found.leaked, found.learn + found.test) == (1, 1, 0)


def test_what_an_earlier_run_took_is_known() -> None:
    earlier = [items.of_text("seen", 1)]
    found = sort([items.of_text("seen", 1), items.of_text("Seen", 0)], earlier=earlier).findings
    assert (found.copies, found.conflicts) == (1, 1)


def test_the_same_examples_are_always_kept_from_training() -> None:
    data = [items.of_text(f"new {number}", number % 2) for number in range(400)]
    kept = {item.key for item in sort(data).test}
    assert 40 < len(kept) < 120  # a fifth of 400
    assert {item.key for item in sort(data[::-1][:200]).test} <= kept


def test_a_growing_log_is_no_fault() -> None:
    logged = [items.of_text(f"known {number}", number % 2) for number in range(30)]
    found = sort([], logged=logged, limits=Checks()).findings
    assert (found.copies, found.learn, found.faults) == (0, 0, ())


def test_each_kind_of_odd_data_is_refused_by_name() -> None:
    leaked = [items.of_text(f"held out {number}", number % 2) for number in range(5)]
    copies = [items.of_text(f"known {number}", number % 2) for number in range(5)]
    conflicts = [items.of_text(f"known {number}", 1 - number % 2) for number in range(5)]
    one_label = [items.of_text(f"new {number}", 1) for number in range(40)]
    for data, name in (
        (leaked, "max_leaked"),
        (copies, "max_copies"),
        (conflicts, "max_conflicts"),
        (one_label, "max_label_shift"),
    ):
        limits = LENIENT.model_copy(update={name: getattr(Checks(), name)})
        (fault,) = sort(data, limits=limits).findings.faults
        assert f"checks.{name}" in fault
        assert not sort(data).findings.faults


def test_few_examples_of_one_label_may_be_chance() -> None:
    found = sort([items.of_text(f"new {number}", 1) for number in range(3)], limits=Checks())
    assert found.findings.label_shift == 0.5
    assert found.findings.chance_shift >= 0.5
    assert not found.findings.faults


def test_a_file_that_can_not_be_read_refuses_all() -> None:
    data = [items.of_text("new", 1)]
    assert sort(data, faults=["new/a.jsonl, line 1: not JSON"]).findings.faults
