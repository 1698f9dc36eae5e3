"""When the runs of a repeated job are due.

start        +every        +2 every       +3 every
  ●────────────●──────────────●──────────────●──── each later by up to `jitter` of the interval
                     ▲ a run that took longer, or a machine that slept: that one was missed
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tensorseek.errors import ScheduleError

Missed = Literal["run", "skip"]

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TICK_S = 0.5


def parse_interval(text: str) -> float:
    """Seconds of an interval such as `90s`, `15m`, `24h` or `7d`.

    Raises:
        ScheduleError: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not seconds:
        raise ScheduleError(f"--every {text!r}: write it as 90s, 15m, 24h or 7d")
    return seconds


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A grid of times, the first at the start.

    Args:
        every_s: seconds between two runs.
        jitter: share of the interval that each run may be late, so that many machines don't begin
            at once.
        missed: what to do when a run's time has passed while another went on, or the machine
            slept: `run` makes up for all of them with one, at once; `skip` waits for the next.
    """

    every_s: float
    jitter: float = 0.1
    missed: Missed = "run"

    def __post_init__(self) -> None:
        if not 0 <= self.jitter < 1:
            raise ScheduleError(f"--jitter {self.jitter}: must be from 0 to less than 1")

    def next(self, start: float, last: float, now: float) -> float:
        """When the next run is due, without its jitter.

        Args:
            start: of the schedule; `last` when the last run began; both and `now` in seconds.
        """
        due = start + (math.floor((last - start) / self.every_s + 1e-9) + 1) * self.every_s
        if due >= now:
            return due
        if self.missed == "run":
            return now
        return start + math.ceil((now - start) / self.every_s) * self.every_s

    def repeat(
        self,
        job: Callable[[], None],
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Runs a job again and again until `stop` says so."""
        start = last = clock()
        while not stop():
            job()
            due = self.next(start, last, clock())
            late = random.random() * self.jitter * self.every_s  # noqa: S311 (no secret)
            while not stop() and clock() < due + late:
                sleep(_TICK_S)
            last = due
