"""Keeps the threads that hand every call to one another on one core of the processor.

    event loop ◄──► gRPC's own threads     ten times a call

On one core that is a switch. Across two, a sleeping core is woken up each time and fetches the
call's memory: a tenth of the gateway's time. Threads that compute, such as tokenizers and pictures,
go wherever there is room.

The scheduler moves others away from a core that is taken. Those that must not move, another gateway
say, are avoided: the core is given up for the one where others take least.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import grpc.aio

_log = logging.getLogger(__name__)
_THREADS, _STATISTICS = Path("/proc/self/task"), Path("/proc/stat")
_LOOK_S = 1.0
_WORTH = 0.25  # of a core's time: a move must win this much, since it costs the warm caches


class Core:
    """The core that the running event loop's thread, and those of gRPC, stay on.

    To be made before the first use of gRPC, as it has to see which threads gRPC starts. Does
    nothing where threads can't be kept on a core, or where there is only one.

    Args:
        worker: its number among several, so that each begins on a core of its own.
    """

    def __init__(self, worker: int = 0) -> None:
        self._allowed = os.sched_getaffinity(0) if _STATISTICS.is_file() else set()
        if len(self._allowed) < 2:
            return
        before = _threads()
        grpc.aio.init_grpc_aio()  # type: ignore[attr-defined]  # the stubs lack it
        self._kept = _threads() - before | {threading.get_native_id()}
        self.number = sorted(self._allowed)[-max(worker, 1) % len(self._allowed)]
        self._place()

    async def follow(self) -> None:
        """Looks every second whether another core is better, until cancelled.

        Ends when cores were taken from the process: the system then says where its threads are.
        """
        while len(self._allowed) > 1:
            busy_s, own_s, at_s = _busy_s(), time.process_time(), time.monotonic()
            await asyncio.sleep(_LOOK_S)
            passed_s = time.monotonic() - at_s
            taken = {
                core: (now_s - busy_s[core]) / passed_s
                for core, now_s in _busy_s().items()
                if core in self._allowed and core in busy_s
            }
            self.number = better(self.number, taken, (time.process_time() - own_s) / passed_s)
            try:
                self._place()
            except OSError as error:
                _log.warning("threads are no longer kept on a core", extra={"reason": str(error)})
                return

    def _place(self) -> None:
        """Puts its threads there; all others, which they started, wherever there is room."""
        for thread in _threads():
            wanted = {self.number} if thread in self._kept else self._allowed
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                if os.sched_getaffinity(thread) != wanted:
                    os.sched_setaffinity(thread, wanted)


def better(here: int, taken: Mapping[int, float], own: float) -> int:
    """The core to go on with: another one only if it is worth it.

    Args:
        taken: share of each core's time that was taken, in [0, 1].
        own: the share that this process took itself.
    """
    others = {**taken, here: max(0.0, taken.get(here, 0.0) - own)}
    best = min(others, key=others.__getitem__)
    # Two that look at once must not both go, and meet again there.
    move = others[here] - others[best] > _WORTH and random.random() < 0.5  # noqa: S311
    return best if move else here


def _threads() -> set[int]:
    return {int(path.name) for path in _THREADS.iterdir()}


def _busy_s() -> dict[int, float]:
    """Seconds that each core has been busy since the machine started.

    Source:
        proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for line in _STATISTICS.read_text().splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name != "cpu":
            spent = list(map(int, values[:8]))
            found[int(name.removeprefix("cpu"))] = (sum(spent) - spent[3] - spent[4]) / ticks
    return found
