"""Laws of splitting: no text in two parts, each label in its share, the same parts each time."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from finetune.data.split import Splits, stratified

rows = st.lists(
    st.tuples(st.text("aAßẞ \tb\u00a0", max_size=4), st.sampled_from("xyz")), max_size=120
)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5])


def key(text: str) -> str:
    return " ".join(text.casefold().split())


def parts(splits: Splits) -> list[list[tuple[str, str]]]:
    return [splits.train, splits.dev, splits.test]


@given(rows, st.integers(0, 9), shares, shares)
def test_no_text_is_in_two_parts_or_twice(
    rows: list[tuple[str, str]], seed: int, dev: float, test: float
) -> None:
    """Not even in another case or with other white space."""
    keys = [key(text) for part in parts(stratified(rows, seed, dev, test)) for text, _ in part]
    assert len(keys) == len(set(keys))


@given(rows, st.integers(0, 9))
def test_every_text_with_one_label_is_kept_as_first_written(
    rows: list[tuple[str, str]], seed: int
) -> None:
    labels: dict[str, set[str]] = {}
    for text, label in rows:
        labels.setdefault(key(text), set()).add(label)
    kept = [row for part in parts(stratified(rows, seed)) for row in part]
    assert {key(text) for text, _ in kept} == {k for k, seen in labels.items() if len(seen) == 1}
    for text, label in kept:
        assert next(row for row in rows if key(row[0]) == key(text)) == (text, label)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 9), shares, shares)
def test_each_label_has_its_share_within_one_row(
    sizes: list[int], seed: int, dev: float, test: float
) -> None:
    rows = [
        (f"text {label} {row}", str(label)) for label, n in enumerate(sizes) for row in range(n)
    ]
    splits = stratified(rows, seed, dev, test)
    for part, share in ((splits.dev, dev), (splits.test, test), (splits.train, 1 - dev - test)):
        counts = Counter(label for _, label in part)
        for label, n in enumerate(sizes):
            assert abs(counts[str(label)] - n * share) <= 1


@given(rows, st.integers(0, 9))
def test_the_same_seed_gives_the_same_parts(rows: list[tuple[str, str]], seed: int) -> None:
    assert stratified(rows, seed) == stratified(rows, seed)


def test_another_seed_gives_other_parts() -> None:
    rows = [(f"text {index}", "xy"[index % 2]) for index in range(100)]
    assert stratified(rows, 0) != stratified(rows, 1)


def test_labels_are_mixed_within_a_part() -> None:
    rows = [(f"text {index}", "xy"[index % 2]) for index in range(100)]
    first = [label for _, label in stratified(rows, 0).train[:20]]
    assert 4 <= first.count("x") <= 16


def test_conflicting_duplicates_are_dropped_and_others_kept_once() -> None:
    rows = [("Good film", "x"), ("good  FILM", "x"), ("Bad film", "x"), ("bad film ", "y")]
    assert stratified(rows, 0) == Splits([("Good film", "x")], [], [])
