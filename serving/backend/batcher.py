"""Runs the calls that meet as one: rows of many callers, one run of the model.

    call ─► a batch of its shape is open and has room ─► joins it, waits for its rows
        └─► none is ─► opens one and leads it ─► waits: full, or `timeout_s` over
                                              ─► waits for a free slot, open to others meanwhile
                                              ─► closes it, runs it in its own thread, shares out

So an idle model answers in the caller's own thread at once, and a busy one merges what arrives
meanwhile. No thread is kept, and nothing is added to the model's graph.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.errors import BackendUnavailable, ConfigError
from serving.tensors import Array

Run = Callable[[Sequence[Array]], Sequence[Array]]
_Key = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How calls are merged.

    Args:
        max_rows: most rows of one run.
        timeout_s: how long an idle model waits for more rows; 0 runs at once and merges only
            what arrives while it is busy.
        slots: runs of one signature that may go on at once.
        max_waiting: batches that may wait for a slot; a call that needs a further one is refused.
        sizes: rows of a run are filled up to the next of these, rising; as they come if empty.
        pad: fill up inputs of different lengths with their first element, so that they may meet.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    max_rows: int = 64
    timeout_s: float = 0.0
    slots: int = 1
    max_waiting: int = 256
    sizes: tuple[int, ...] = ()
    pad: bool = False

    def __post_init__(self) -> None:
        for name, low in (("max_rows", 1), ("timeout_s", 0), ("slots", 1), ("max_waiting", 1)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise ConfigError(f"batching.{name}: is {value}; use {low} or more")


class Batcher:
    """Merges concurrent calls of one function; every input and output has its rows first."""

    def __init__(self, run: Run, batching: Batching) -> None:
        self._run = run
        self._batching = batching
        self._slots = _Slots(batching.slots)
        self._lock = threading.Lock()
        self._open: dict[_Key, _Batch] = {}
        self._waiting = 0

    def __call__(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Answers one call.

        Args:
            arrays: the inputs, each [rows, ...].

        Raises:
            BackendUnavailable: too many batches wait already.
        """
        rows = len(arrays[0])
        if not 0 < rows <= self._batching.max_rows:
            return self._run(arrays)  # it can't meet another one
        call = _Call(arrays, rows)
        batch, leads = self._join(call)
        if leads:
            self._lead(batch)
        else:
            batch.done.wait()
        if call.outputs is not None:
            return call.outputs
        # One caller's bad rows fail the whole run; alone, each meets its own fault only.
        return self._run(arrays)

    def _join(self, call: _Call) -> tuple[_Batch, bool]:
        key = tuple(map(self._met_by, call.arrays))
        with self._lock:
            batch = self._open.get(key)
            if batch and batch.rows + call.rows <= self._batching.max_rows:
                batch.add(call, self._batching.max_rows)
                return batch, False
            if self._waiting >= self._batching.max_waiting:
                raise BackendUnavailable(
                    "The batch scheduling queue to which this task was submitted is full; try again"
                )
            if batch:
                batch.full.set()
            self._waiting += 1
            batch = self._open[key] = _Batch(key)
            batch.add(call, self._batching.max_rows)
            return batch, True

    def _met_by(self, array: Array) -> tuple[int, ...]:
        """What two inputs must have in common to be rows of one."""
        return (array.ndim,) if self._batching.pad else array.shape[1:]

    def _lead(self, batch: _Batch) -> None:
        if self._batching.timeout_s and not batch.full.is_set():
            batch.full.wait(self._batching.timeout_s)
        self._slots.take()
        try:
            self._close(batch)
            self._answer(batch.calls, batch.rows)
        except Exception:  # whatever it was, `__call__` lets each caller meet it alone
            if len(batch.calls) == 1:
                raise
        finally:
            self._slots.give()
            batch.done.set()

    def _close(self, batch: _Batch) -> None:
        with self._lock:
            self._waiting -= 1
            if self._open.get(batch.key) is batch:
                del self._open[batch.key]

    def _answer(self, calls: Sequence[_Call], rows: int) -> None:
        """Runs the batch and gives each call its rows; none when they can't be told apart."""
        target = self._size(rows)
        if len(calls) == 1 and target == rows:
            calls[0].outputs = self._run(calls[0].arrays)
            return
        merged = [
            _stack(each, target) for each in zip(*(call.arrays for call in calls), strict=True)
        ]
        outputs = self._run(merged)
        if any(output.ndim == 0 or len(output) != target for output in outputs):
            return
        start = 0
        for call in calls:
            end = start + call.rows
            call.outputs = [output[start:end] for output in outputs]
            start = end

    def _size(self, rows: int) -> int:
        sizes = self._batching.sizes
        place = bisect.bisect_left(sizes, rows)
        return sizes[place] if place < len(sizes) else rows


@dataclass(eq=False)
class _Call:
    arrays: Sequence[Array]
    rows: int
    outputs: Sequence[Array] | None = None


@dataclass(eq=False)
class _Batch:
    """Calls that run together; the first one leads."""

    key: _Key
    calls: list[_Call] = field(default_factory=list)
    rows: int = 0
    full: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def add(self, call: _Call, max_rows: int) -> None:
        self.calls.append(call)
        self.rows += call.rows
        if self.rows == max_rows:
            self.full.set()


class _Slots:
    """Runs that may go on at once; who waits longest is next, and nobody overtakes."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._queue: deque[threading.Lock] = deque()

    def take(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        turn.acquire()

    def give(self) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1


def _stack(arrays: Sequence[Array], rows: int) -> Array:
    """Rows of one input below one another, [rows, ...]; the first is repeated to fill up."""
    longest = tuple(
        max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True)
    )
    stacked = [_padded(array, longest) for array in arrays]
    missing = rows - sum(map(len, stacked))
    if missing:
        stacked.append(np.repeat(stacked[0][:1], missing, axis=0))
    return np.concatenate(stacked) if len(stacked) > 1 else stacked[0]


def _padded(array: Array, sizes: tuple[int, ...]) -> Array:
    """An input [rows, ...] grown to the trailing `sizes`, by its own first element.

    Source:
        tensorflow_serving/batching/batching_util.h, `AddPadding`.
    """
    if array.shape[1:] == sizes:
        return array
    first = array.flat[0] if array.size else b"" if array.dtype.hasobject else 0
    grown = np.full((len(array), *sizes), first, array.dtype)
    grown[tuple(slice(size) for size in array.shape)] = array
    return grown
