"""Laws of a trial's judgement: what differs beyond chance and limits speaks against the version,
what chance explains does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.refresh.settings import Canary
from tensorseek.canary import judgement
from tensorseek.canary.counts import Counts

LIMITS = Canary(gateway=Path("gateway.yaml"))


def counted(calls: int, errors: int = 0, slow: int = 0, **labels: int) -> Counts:
    """Calls of 10 ms at most; the slow ones of 100 ms."""
    within = {"0.01": calls - slow, "0.1": calls, "+Inf": calls}
    return Counts(calls=calls, errors=errors, labels=labels, within=within)


def test_errors_are_fishers_exact_test() -> None:
    # The lady who tasted tea: at least three of four right, by chance 17 in 70.
    assert judgement.chance_of_errors(counted(4, 1), counted(4, 3)) == pytest.approx(17 / 70)
    assert judgement.chance_of_errors(counted(100), counted(50)) == 1
    assert judgement.chance_of_errors(counted(0), counted(0)) == 1


@pytest.mark.parametrize(
    ("champion", "trial", "said"),
    [
        (counted(1000, 5), counted(50, 5), "5 of its 50 calls failed, 5 of 1000"),
        (counted(1000), counted(50, slow=10), "canary.max_slowdown"),
        (counted(1000, good=500, bad=500), counted(60, good=50, bad=10), "max_label_shift"),
        (counted(1000), Counts(withheld=True), "golden answers"),
    ],
)
def test_what_differs_is_named(champion: Counts, trial: Counts, said: str) -> None:
    (fault,) = judgement.faults(champion, trial, LIMITS)
    assert said in fault


@pytest.mark.parametrize(
    ("champion", "trial"),
    [
        (counted(1000, 10), counted(50, 1)),  # chance
        (counted(1000, good=500, bad=500), counted(12, good=9, bad=3)),  # few
        (counted(100_000, good=50_000, bad=50_000), counted(5000, good=2800, bad=2200)),  # little
        (counted(1000), counted(10, slow=5)),  # no tail yet
        (counted(0), counted(0)),
    ],
)
def test_what_chance_or_the_limits_explain_is_no_fault(champion: Counts, trial: Counts) -> None:
    assert judgement.faults(champion, trial, LIMITS) == []


def test_an_alarm_needs_more_than_a_fault_since_it_is_looked_for_again_and_again() -> None:
    champion, trial = counted(1000, 20), counted(50, 5)
    assert judgement.faults(champion, trial, LIMITS)
    assert judgement.alarms(champion, trial, LIMITS) == []
    assert judgement.alarms(champion, counted(50, 25), LIMITS)
