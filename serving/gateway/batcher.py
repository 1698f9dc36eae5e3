"""Requests that meet become one call to the backend.

    caller A   ▪ ▪ ▪ ┐                       idle   what comes is sent at once, as it is
    caller B   ▪     ├─► a job of each       busy   it waits, and goes with others of its model,
    caller C   ▪ ▪   ┘   in turn                    version and shape as soon as a call ends

A backend is busy with `busy_calls` at once; with one, if it answers within `short_s`: such a call
costs more on its way than in the model, and rows of many callers in one more than pay for the wait.

No timer ever holds up a call to a backend that has nothing to do. While it is busy, at most one
call more is opened every `max_delay_s`: so a backlog waits here, where callers take turns, and not
in the backend, where they would not.

Knows neither messages nor sockets: the backend is an `Execute`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serving.errors import BackendFault, InvalidArgument, LimitExceeded
from serving.gateway.types import Deadline, Execute, ModelKey, Tensors

Ready = Callable[[ModelKey], int]
Observe = Callable[[str, int, Sequence[float]], None]  # model, rows, seconds that each job waited

_NEWEST = 1 / 8  # what the newest call weighs in how long they take
_RETRY_S = 0.1  # by then some calls have most likely ended
_Shape = tuple[tuple[str, str, tuple[int, ...]], ...]  # each tensor's name, dtype, size of a row


@dataclass(frozen=True, kw_only=True)
class Batching:
    """When calls are merged.

    Args:
        max_rows: of one merged call.
        max_delay_s: how long a call waits for a busy backend; 0 merges nothing.
        busy_calls: so many at once keep one backend busy.
        short_s: backends that answer faster are kept busy by one.
        max_queue: rows that may wait, over all models; more are refused.
    """

    max_rows: int = 32
    max_delay_s: float = 0.02
    busy_calls: int = 1
    short_s: float = 0.004
    max_queue: int = 8192


@dataclass(kw_only=True, eq=False)
class _Job:
    """What one call waits for."""

    tensors: Tensors
    rows: int
    deadline: Deadline
    answer: asyncio.Future[Tensors]
    since_s: float
    batch: _Batch | None = None  # None while it waits


@dataclass(kw_only=True)
class _Batch:
    """Jobs of one shape, answered by one call."""

    jobs: Sequence[_Job]
    task: asyncio.Task[None]


class Batcher:
    """Merges calls to one `Execute`, on one event loop.

    Every tensor has a row for each example, and so must every tensor of the answer that counts its
    examples: one of as many rows as were merged is taken apart, another is given to all.

    Args:
        ready: how many backends can be asked for a version.
        observe: hears of each call.
    """

    def __init__(
        self, execute: Execute, ready: Ready, settings: Batching, observe: Observe
    ) -> None:
        self._execute = execute
        self._ready = ready
        self._settings = settings
        self._observe = observe
        self._lanes: dict[ModelKey, _Lane] = {}
        self.waiting = 0  # rows

    async def submit(
        self, key: ModelKey, tensors: Tensors, deadline: Deadline, caller: str
    ) -> Tensors:
        """What `execute` answers to these tensors, asked alone or together with others.

        Args:
            caller: whose turn it takes when several wait.

        Raises:
            LimitExceeded: too many rows wait already.
            ServingError: as `execute` does for these tensors.
        """
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key, self._execute, self._settings, self._observe)
        rows = len(next(iter(tensors.values())))
        lane.backends = self._ready(key)
        if lane.idle or not self._settings.max_delay_s:
            return await lane.run(tensors, rows, deadline)
        if self.waiting + rows > self._settings.max_queue:
            raise LimitExceeded(
                f"{self.waiting} inputs wait for the backend, the limit is "
                f"max_queue={self._settings.max_queue}; try again later",
                _RETRY_S,
            )
        self.waiting += rows
        try:
            return await lane.wait(tensors, rows, deadline, caller)
        finally:
            self.waiting -= rows


class _Lane:
    """The calls to one version of a model: those that run, and those that wait."""

    def __init__(
        self, key: ModelKey, execute: Execute, settings: Batching, observe: Observe
    ) -> None:
        self._key = key
        self._execute = execute
        self._settings = settings
        self._observe = observe
        self._running = 0
        self._took_s = settings.short_s  # as a rule, lately
        self.backends = 1  # that can be asked
        self._overdue: asyncio.TimerHandle | None = None
        # Whose turn it is comes first; of each caller the oldest job of a shape does.
        self._callers: OrderedDict[str, dict[_Shape, OrderedDict[_Job, None]]] = OrderedDict()

    @property
    def idle(self) -> bool:
        """Whether one more call finds a backend with nothing to do."""
        short = self._took_s < self._settings.short_s
        return self._running < self.backends * (1 if short else self._settings.busy_calls)

    async def run(self, tensors: Tensors, rows: int, deadline: Deadline) -> Tensors:
        """Asks at once."""
        self._running += 1
        self._observe(self._key.name, rows, ())
        try:
            return await self._timed(tensors, deadline)
        finally:
            self._ended()

    async def wait(self, tensors: Tensors, rows: int, deadline: Deadline, caller: str) -> Tensors:
        """Asks when its turn comes."""
        loop = asyncio.get_running_loop()
        job = _Job(
            tensors=tensors,
            rows=rows,
            deadline=deadline,
            answer=loop.create_future(),
            since_s=loop.time(),
        )
        shape = tuple((name, each.dtype.str, each.shape[1:]) for name, each in tensors.items())
        self._callers.setdefault(caller, {}).setdefault(shape, OrderedDict())[job] = None
        if self._overdue is None:
            self._overdue = loop.call_later(self._settings.max_delay_s, self._hurry)
        try:
            return await job.answer
        except asyncio.CancelledError:
            if job.batch is None:
                self._remove(caller, shape, job)
            elif all(other.answer.done() for other in job.batch.jobs):
                job.batch.task.cancel()
            raise

    def _ended(self) -> None:
        self._running -= 1
        while self._callers and self.idle:
            self._start()

    def _hurry(self) -> None:
        self._overdue = None
        if self._callers:
            self._start()
        if self._callers:
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(self._settings.max_delay_s, self._hurry)

    def _start(self) -> None:
        jobs = self._take()
        self._running += 1
        now_s = asyncio.get_running_loop().time()
        waited = [now_s - job.since_s for job in jobs]
        self._observe(self._key.name, sum(job.rows for job in jobs), waited)
        task = asyncio.ensure_future(self._answer(jobs))
        task.add_done_callback(lambda _: self._ended())
        batch = _Batch(jobs=jobs, task=task)
        for job in jobs:
            job.batch = batch
        if not self._callers and self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _take(self) -> Sequence[_Job]:
        """Jobs that go together: the first caller's most urgent one decides which."""
        first = next(iter(self._callers.values()))
        shape = min(first, key=lambda each: next(iter(first[each])).deadline.at_s)
        jobs: list[_Job] = []
        room = self._settings.max_rows
        callers = [caller for caller, queues in self._callers.items() if shape in queues]
        while callers:
            waiting = []
            for caller in callers:
                queue = self._callers[caller][shape]
                job = next(iter(queue))
                if jobs and job.rows > room:
                    return jobs
                jobs.append(job)
                room -= job.rows
                self._callers.move_to_end(caller)
                self._remove(caller, shape, job)
                if queue:
                    waiting.append(caller)
            callers = waiting
        return jobs

    def _remove(self, caller: str, shape: _Shape, job: _Job) -> None:
        queues = self._callers[caller]
        del queues[shape][job]
        if not queues[shape]:
            del queues[shape]
        if not queues:
            del self._callers[caller]

    async def _answer(self, jobs: Sequence[_Job]) -> None:
        try:
            parts = await self._ask(jobs)
        except (InvalidArgument, BackendFault) as error:
            if len(jobs) == 1:
                _fail(jobs, error)
            else:  # one of them is to blame, the others shall not pay for it
                await asyncio.gather(*(self._answer([job]) for job in jobs))
        except Exception as error:  # noqa: BLE001  # raised where each answer is awaited
            _fail(jobs, error)
        else:
            for job, part in zip(jobs, parts, strict=True):
                if not job.answer.done():
                    job.answer.set_result(part)

    async def _ask(self, jobs: Sequence[_Job]) -> Sequence[Tensors]:
        if len(jobs) == 1:
            return [await self._timed(jobs[0].tensors, jobs[0].deadline)]
        merged = {
            name: np.concatenate([job.tensors[name] for job in jobs]) for name in jobs[0].tensors
        }
        latest = max((job.deadline for job in jobs), key=lambda deadline: deadline.at_s)
        outputs = await self._timed(merged, latest)
        return _split(outputs, [job.rows for job in jobs])

    async def _timed(self, tensors: Tensors, deadline: Deadline) -> Tensors:
        began_s = time.perf_counter()
        outputs = await self._execute(self._key, tensors, deadline)
        self._took_s += _NEWEST * (time.perf_counter() - began_s - self._took_s)
        return outputs


def _split(outputs: Tensors, rows: Sequence[int]) -> Sequence[Tensors]:
    ends = np.cumsum(rows)
    by_row = {name: each for name, each in outputs.items() if each.shape[:1] == (ends[-1],)}
    return [
        {**outputs, **{name: each[end - count : end] for name, each in by_row.items()}}
        for end, count in zip(ends, rows, strict=True)
    ]


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.answer.done():
            job.answer.set_exception(error)
