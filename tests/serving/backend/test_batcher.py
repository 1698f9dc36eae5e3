"""Law: whoever meets, each caller gets the rows that it would get alone, and nobody waits in vain.

What is run is a plain function here: it is what the batcher is given in the backend too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.backend.batcher import Batcher, Batching
from serving.errors import BackendUnavailable, InvalidArgument

WAIT_S = 10.0
Eventually = Callable[[Callable[[], bool]], None]


class Model:
    """Doubles its input, [rows, ...]; holds runs up while `gate` is clear; refuses what is 13."""

    def __init__(self) -> None:
        self.runs: list[tuple[int, ...]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)

    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        (x,) = arrays
        self.runs.append(x.shape)
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        if (x == 13).any():
            raise InvalidArgument("x", "is 13")
        return [2 * x, np.full(len(x), len(x))]


def column(*values: float) -> list[Any]:
    return [np.array(values, np.float32)[:, None]]


class Busy:
    """A batcher whose model works on one call until it is let go; the rest waits behind it."""

    def __init__(self, pool: ThreadPoolExecutor, batching: Batching) -> None:
        self.model = Model()
        self.batcher = Batcher(self.model, batching)
        self._pool = pool
        self.model.gate.clear()
        self.first = self.call(column(0))
        assert self.model.entered.acquire(timeout=WAIT_S)

    def call(self, arrays: list[Any]) -> Future[Any]:
        return self._pool.submit(self.batcher, arrays)

    def rows_waiting(self) -> int:
        return sum(batch.rows for batch in list(self.batcher._open.values()))


def test_an_idle_model_answers_in_the_callers_own_thread_as_it_is() -> None:
    threads = []

    def run(arrays: Sequence[Any]) -> list[Any]:
        threads.append(threading.current_thread())
        return [*arrays, np.float32(1)]  # not per row: alone, that is nobody's matter

    (x,) = column(1)
    same, one = Batcher(run, Batching())([x])
    assert threads == [threading.current_thread()]
    assert same is x
    assert one == 1


def test_what_arrives_while_the_model_is_busy_runs_as_one(eventually: Eventually) -> None:
    with ThreadPoolExecutor(8) as pool:
        busy = Busy(pool, Batching(max_rows=4))
        calls = [busy.call(column(value)) for value in (1, 2, 3)]
        eventually(lambda: busy.rows_waiting() == 3)
        busy.model.gate.set()
        for value, call in zip((1, 2, 3), calls, strict=True):
            doubled, rows = call.result(WAIT_S)
            assert (doubled.tolist(), rows.tolist()) == ([[2 * value]], [3])
        assert busy.model.runs == [(1, 1), (3, 1)]


def test_a_full_batch_is_followed_by_another_in_the_order_of_arrival(
    eventually: Eventually,
) -> None:
    with ThreadPoolExecutor(8) as pool:
        busy = Busy(pool, Batching(max_rows=2))
        first = busy.call(column(1, 2))
        eventually(lambda: busy.rows_waiting() == 2)
        second = busy.call(column(3))
        eventually(lambda: busy.rows_waiting() == 1)
        third = busy.call(column(4))
        eventually(lambda: busy.rows_waiting() == 2)
        busy.model.gate.set()
        assert [call.result(WAIT_S)[0].ravel().tolist() for call in (first, second, third)] == [
            [2, 4],
            [6],
            [8],
        ]
        assert busy.model.runs == [(1, 1), (2, 1), (2, 1)]


def test_a_neighbours_fault_is_its_own(eventually: Eventually) -> None:
    with ThreadPoolExecutor(8) as pool:
        busy = Busy(pool, Batching())
        calls = [busy.call(column(value)) for value in (1, 13, 2)]
        eventually(lambda: busy.rows_waiting() == 3)
        busy.model.gate.set()
        assert calls[0].result(WAIT_S)[0].tolist() == [[2]]
        with pytest.raises(InvalidArgument, match="x: is 13"):
            calls[1].result(WAIT_S)
        assert calls[2].result(WAIT_S)[0].tolist() == [[4]]


def test_outputs_that_are_not_per_row_are_right_for_each(eventually: Eventually) -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    def run(arrays: Sequence[Any]) -> list[Any]:
        entered.release()
        assert gate.wait(WAIT_S)
        return [np.concatenate([arrays[0], arrays[0]])]

    batcher = Batcher(run, Batching())
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(batcher, column(0))]
        assert entered.acquire(timeout=WAIT_S)
        calls += [pool.submit(batcher, column(value)) for value in (1, 2)]
        eventually(lambda: sum(batch.rows for batch in list(batcher._open.values())) == 2)
        gate.set()
        assert [call.result(WAIT_S)[0].ravel().tolist() for call in calls] == [
            [0, 0],
            [1, 1],
            [2, 2],
        ]


def test_more_batches_than_may_wait_are_refused_at_once(eventually: Eventually) -> None:
    with ThreadPoolExecutor(8) as pool:
        busy = Busy(pool, Batching(max_rows=1, max_waiting=1))
        waits = busy.call(column(1))
        eventually(lambda: busy.rows_waiting() == 1)
        with pytest.raises(BackendUnavailable, match=r"submitted is full; try again"):
            busy.batcher(column(2))
        busy.model.gate.set()
        assert waits.result(WAIT_S)[0].tolist() == [[2]]
    assert busy.batcher(column(3))[0].tolist() == [[6]]


def test_more_rows_than_a_batch_has_run_alone() -> None:
    model = Model()
    assert len(Batcher(model, Batching(max_rows=2))(column(1, 2, 3))[0]) == 3
    assert model.runs == [(3, 1)]


def test_an_idle_model_waits_for_more_rows_if_told_to_but_not_once_it_is_full() -> None:
    model = Model()
    batcher = Batcher(model, Batching(max_rows=2, timeout_s=3600))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda value: batcher(column(value))[0].tolist(), (1, 2)))
    assert answers == [[[2]], [[4]]]
    assert model.runs == [(2, 1)]


def test_as_many_batches_run_at_once_as_there_are_slots() -> None:
    model = Model()
    model.gate.clear()
    batcher = Batcher(model, Batching(max_rows=1, slots=2))
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(batcher, column(value)) for value in (1, 2, 3)]
        for _ in range(2):
            assert model.entered.acquire(timeout=WAIT_S)
        assert not model.entered.acquire(timeout=0.05)
        model.gate.set()
        assert [call.result(WAIT_S)[0].tolist() for call in calls] == [[[2]], [[4]], [[6]]]


def test_rows_are_filled_up_to_an_allowed_size_that_nobody_sees() -> None:
    model = Model()
    batcher = Batcher(model, Batching(max_rows=8, sizes=(2, 4, 8)))
    for rows, ran in ((1, 2), (2, 2), (3, 4), (8, 8)):
        assert len(batcher(column(*range(rows)))[0]) == rows
        assert model.runs[-1] == (ran, 1)


def test_inputs_of_different_lengths_meet_if_they_may_be_padded(eventually: Eventually) -> None:
    with ThreadPoolExecutor(4) as pool:
        busy = Busy(pool, Batching(pad=True))
        short = busy.call([np.array([[7.0]], np.float32)])
        long = busy.call([np.array([[1.0, 2.0, 3.0]], np.float32)])
        eventually(lambda: busy.rows_waiting() == 2)
        busy.model.gate.set()
        assert short.result(WAIT_S)[0].tolist() == [[14, 14, 14]]  # by its own first element
        assert long.result(WAIT_S)[0].tolist() == [[2, 4, 6]]


def test_a_string_of_no_length_is_padded_with_empty_ones(eventually: Eventually) -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    def run(arrays: Sequence[Any]) -> list[Any]:
        entered.release()
        assert gate.wait(WAIT_S)
        return list(arrays)

    batcher = Batcher(run, Batching(pad=True))
    with ThreadPoolExecutor(4) as pool:
        pool.submit(batcher, [np.array([[b"first"]], object)])
        assert entered.acquire(timeout=WAIT_S)
        empty = pool.submit(batcher, [np.empty((1, 0), object)])
        one = pool.submit(batcher, [np.array([[b"a"]], object)])
        eventually(lambda: sum(batch.rows for batch in list(batcher._open.values())) == 2)
        gate.set()
        assert empty.result(WAIT_S)[0].tolist() == [[b""]]
        assert one.result(WAIT_S)[0].tolist() == [[b"a"]]


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=30),
    max_rows=st.integers(1, 8),
    slots=st.integers(1, 3),
    sizes=st.booleans(),
)
def test_whatever_comes_together_every_caller_gets_its_own_rows(
    calls: list[tuple[int, int]], max_rows: int, slots: int, sizes: bool
) -> None:
    allowed = (max_rows,) if sizes else ()
    batcher = Batcher(Model(), Batching(max_rows=max_rows, slots=slots, sizes=allowed))
    sent = [
        np.full((rows, width), 100.0 + number, np.float32)
        for number, (rows, width) in enumerate(calls)
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: batcher([x])[0], sent))
    for x, y in zip(sent, answers, strict=True):
        np.testing.assert_array_equal(y, 2 * x)
