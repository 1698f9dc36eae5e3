"""Laws of the schedule: a grid from the start; what was missed is made up for once, or skipped."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorseek.errors import ScheduleError
from tensorseek.schedule import Schedule, parse_interval


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86400), ("7d", 604800)]
)
def test_intervals_are_read(text: str, seconds: float) -> None:
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "24", "0h", "-1h", "1.5h", "24 h", "9999999s"])
def test_anything_else_is_no_interval(text: str) -> None:
    with pytest.raises(ScheduleError, match="write it as"):
        parse_interval(text)


@pytest.mark.parametrize("jitter", [-0.1, 1.0])
def test_a_jitter_is_a_share(jitter: float) -> None:
    with pytest.raises(ScheduleError, match="jitter"):
        Schedule(every_s=60, jitter=jitter)


@given(
    every=st.integers(1, 1000), runs=st.integers(0, 50), took=st.floats(0, 5000, allow_nan=False)
)
def test_the_next_run_lies_on_the_grid_or_is_due_now(every: int, runs: int, took: float) -> None:
    start = 1e6
    last = start + runs * every
    now = last + took
    skipping = Schedule(every_s=every, missed="skip").next(start, last, now)
    assert skipping >= now - 1e-6
    assert math.isclose((skipping - start) / every, round((skipping - start) / every), abs_tol=1e-6)
    running = Schedule(every_s=every, missed="run").next(start, last, now)
    assert running == (last + every if took <= every else now) or math.isclose(running, skipping)


def test_a_job_is_repeated_until_it_is_stopped() -> None:
    began: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def job() -> None:
        began.append(now[0])
        now[0] += 3  # the work's own time moves nothing

    Schedule(every_s=10, jitter=0).repeat(job, lambda: len(began) == 3, lambda: now[0], sleep)
    assert began == [0, 10, 20]
