"""Laws of the paired test: it counts what only one gets right, and each limit refuses alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.refresh import comparison
from finetune.refresh.comparison import Comparison
from finetune.refresh.settings import Limits

NAMES = ("no", "yes")
LENIENT = Limits(max_drop=1, max_new_drop=1, max_label_drop=1, significance=1e-9)


def of(lost: int, gained: int, both: int = 100) -> Comparison:
    """Two models that differ in `lost` and `gained` of all answers; every label is 1."""
    labels = np.ones(lost + gained + both, np.int32)
    champion, challenger = labels.copy(), labels.copy()
    challenger[:lost] = 0
    champion[lost : lost + gained] = 0
    return comparison.compare(champion, challenger, labels, NAMES)


def test_it_counts_answers_that_only_one_gets_right() -> None:
    found = of(lost=3, gained=5, both=92)
    assert (found.lost, found.gained, found.examples) == (3, 5, 100)
    assert found.champion == pytest.approx(0.95)
    assert found.challenger == pytest.approx(0.97)
    assert found.drop == pytest.approx(-0.02)
    (change,) = found.labels  # no example has the label "no"
    assert (change.label, change.support) == ("yes", 100)


@given(lost=st.integers(0, 6), gained=st.integers(0, 6))
def test_p_is_the_share_of_coin_throws_that_lose_at_least_as_much(lost: int, gained: int) -> None:
    throws = [sum(throw) for throw in itertools.product((0, 1), repeat=lost + gained)]
    share = sum(heads >= lost for heads in throws) / len(throws)
    assert of(lost, gained).p_worse == pytest.approx(share, abs=1e-9)


def test_many_examples_cost_no_precision() -> None:
    found = of(lost=2600, gained=2400, both=95_000)
    assert found.p_worse == pytest.approx(0.00246, rel=0.02)  # the normal tail beyond 2.81
    assert found.p_different == pytest.approx(2 * found.p_worse)


@pytest.mark.parametrize(
    ("limits", "holdout", "new", "said"),
    [
        (LENIENT.model_copy(update={"max_drop": 0.01}), of(3, 1), None, "limits.max_drop"),
        (LENIENT.model_copy(update={"significance": 0.05}), of(9, 0), None, "significance"),
        (LENIENT.model_copy(update={"max_new_drop": 0.0}), of(0, 9), of(1, 0), "max_new_drop"),
        (LENIENT.model_copy(update={"max_label_drop": 0.02}), of(5, 0), None, "max_label_drop"),
        (LENIENT, of(1, 0), None, "fewer"),
    ],
)
def test_each_limit_refuses_alone(
    limits: Limits, holdout: Comparison, new: Comparison | None, said: str
) -> None:
    (fault,) = comparison.faults(holdout, new, limits)
    assert said in fault


def test_a_label_with_few_examples_is_not_judged() -> None:
    limits = LENIENT.model_copy(update={"max_label_drop": 0.0, "min_support": 1000})
    assert not comparison.faults(of(5, 6), None, limits)


def test_an_equal_or_better_challenger_passes() -> None:
    assert not comparison.faults(of(4, 4), of(0, 2), Limits())
