"""Laws of merging: every answer is its own caller's, an idle backend is never waited for, callers
take turns, and what is wrong with one hurts no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import BackendUnavailable, InvalidArgument, LimitExceeded
from serving.gateway.batcher import Batcher, Batching
from serving.gateway.types import Deadline, ModelKey, Tensors

KEY = ModelKey("tiny", 1)
POISON = 666


def row(value: int, width: int = 4, rows: int = 1) -> Tensors:
    return {"ids": np.full((rows, width), value, np.int32)}


def deadline() -> Deadline:
    return Deadline.after(60)


class Backend:
    """Doubles what it gets, when it is let; refuses whatever holds the poison."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []  # the first value of each row
        self.gate = asyncio.Event()
        self.started = asyncio.Semaphore(0)
        self.cancelled = 0

    async def __call__(self, key: ModelKey, tensors: Tensors, until: Deadline) -> Tensors:
        ids = tensors["ids"]
        self.calls.append([int(value) for value in ids[:, 0]])
        self.started.release()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if (ids == POISON).any():
            raise InvalidArgument("ids", "holds poison")
        return {"logits": 2 * ids.astype(np.float32), "temperature": np.asarray(7.0)}


def run(
    work: Callable[[Backend, Batcher], Awaitable[None]],
    settings: Batching | None = None,
    busy: int = 1,
) -> None:
    async def main() -> None:
        backend = Backend()
        batcher = Batcher(
            backend,
            lambda key: busy,
            settings or Batching(max_rows=4, max_delay_s=60),
            lambda model, rows, waited: None,
        )
        async with asyncio.timeout(30):
            await work(backend, batcher)
        assert batcher.waiting == 0

    asyncio.run(main())


def submit(
    batcher: Batcher, tensors: Tensors, caller: str = "a", key: ModelKey = KEY
) -> asyncio.Task[Tensors]:
    return asyncio.ensure_future(batcher.submit(key, tensors, deadline(), caller))


async def settle() -> None:
    """Lets everything happen that can happen now."""
    for _ in range(10):
        await asyncio.sleep(0)


@given(
    jobs=st.lists(
        st.tuples(
            st.integers(1, 500), st.sampled_from([4, 8]), st.integers(1, 4), st.sampled_from("abc")
        ),
        min_size=1,
        max_size=25,
        unique_by=lambda job: job[0],
    ),
    busy=st.integers(1, 3),
    max_rows=st.integers(1, 8),
)
@settings(max_examples=30)
def test_every_caller_gets_its_own_answer_whole(
    jobs: Sequence[tuple[int, int, int, str]], busy: int, max_rows: int
) -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [
            submit(batcher, row(value, width, rows), name) for value, width, rows, name in jobs
        ]
        await settle()
        backend.gate.set()
        for (value, width, rows, _), task in zip(jobs, tasks, strict=True):
            answer = await task
            np.testing.assert_array_equal(answer["logits"], np.full((rows, width), 2.0 * value))
            assert answer["temperature"] == 7
        rows_of = {value: rows for value, _, rows, _ in jobs}
        for call in backend.calls:
            assert len(call) <= max_rows or len(call) == rows_of[call[0]]

    run(work, Batching(max_rows=max_rows, max_delay_s=60), busy)


def test_an_idle_backend_is_asked_at_once_and_a_busy_one_gets_the_rest_together() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(value)) for value in range(1, 5)]
        await settle()
        assert backend.calls == [[1]]
        backend.gate.set()
        await asyncio.gather(*tasks)
        assert backend.calls == [[1], [2, 3, 4]]

    run(work)


def test_no_call_waits_longer_than_max_delay() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(value)) for value in (1, 2, 3)]
        for _ in range(2):  # the second starts although the first has not ended
            await backend.started.acquire()
        assert backend.calls == [[1], [2, 3]]
        backend.gate.set()
        await asyncio.gather(*tasks)

    run(work, Batching(max_rows=4, max_delay_s=0.01))


def test_without_delay_nothing_is_merged() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        backend.gate.set()
        await asyncio.gather(*(submit(batcher, row(value)) for value in (1, 2, 3)))
        assert backend.calls == [[1], [2], [3]]

    run(work, Batching(max_delay_s=0))


def test_callers_take_turns_whatever_they_have_sent() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(1), "first")]
        tasks += [submit(batcher, row(10), "greedy") for _ in range(20)]
        tasks += [submit(batcher, row(20), "modest"), submit(batcher, row(30), "other")]
        await settle()
        backend.gate.set()
        await asyncio.gather(*tasks)
        assert sorted(backend.calls[1]) == [10, 10, 20, 30]

    run(work)


def test_a_shape_that_few_send_is_not_starved_by_one_that_many_send() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(1), "first")]
        tasks += [submit(batcher, row(10), "greedy") for _ in range(40)]
        tasks += [submit(batcher, row(20, width=8), "modest")]
        await settle()
        backend.gate.set()
        await asyncio.gather(*tasks)
        assert [20] in backend.calls[:3]

    run(work)


def test_models_and_versions_are_never_mixed() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        keys = [KEY, ModelKey("tiny", 2), ModelKey("other", 1)]
        tasks = [submit(batcher, row(place), key=key) for place, key in enumerate(keys)]
        tasks += [submit(batcher, row(place), key=key) for place, key in enumerate(keys)]
        await settle()
        backend.gate.set()
        await asyncio.gather(*tasks)
        assert sorted(backend.calls) == [[0], [0], [1], [1], [2], [2]]

    run(work)


def test_poison_fails_its_own_caller_alone() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(value)) for value in (1, 2, POISON, 3)]
        await settle()
        backend.gate.set()
        good = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(good.pop(2), InvalidArgument)
        for value, answer in zip((1, 2, 3), good, strict=True):
            assert isinstance(answer, dict)
            assert answer["logits"][0, 0] == 2 * value

    run(work)


def test_a_backend_that_is_gone_fails_all_of_a_call_at_once() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        async def gone(key: ModelKey, tensors: Tensors, until: Deadline) -> Tensors:
            backend.calls.append([])
            await backend.gate.wait()
            raise BackendUnavailable("gone")

        merged = Batcher(
            gone, lambda key: 1, Batching(max_delay_s=60), lambda model, rows, waited: None
        )
        tasks = [submit(merged, row(value)) for value in (1, 2, 3)]
        await settle()
        backend.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, BackendUnavailable) for answer in answers)
        assert len(backend.calls) == 2

    run(work)


def test_who_leaves_while_waiting_is_not_asked_for_and_holds_nothing() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        first, second, third = (submit(batcher, row(value)) for value in (1, 2, 3))
        await settle()
        second.cancel()
        await settle()
        assert batcher.waiting == 1
        backend.gate.set()
        await asyncio.gather(first, third)
        assert backend.calls == [[1], [3]]

    run(work)


def test_a_call_is_cancelled_when_all_who_share_it_have_left_and_only_then() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        first = submit(batcher, row(1))
        others = [submit(batcher, row(value)) for value in (2, 3)]
        await backend.started.acquire()
        first.cancel()
        await backend.started.acquire()
        assert backend.calls == [[1], [2, 3]]
        others[0].cancel()
        await settle()
        assert backend.cancelled == 1  # the first, which was alone
        others[1].cancel()
        await settle()
        assert backend.cancelled == 2

    run(work)


def test_a_queue_that_is_full_refuses_at_once_with_a_hint() -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(1)), submit(batcher, row(2, rows=3))]
        await settle()
        with pytest.raises(LimitExceeded, match="max_queue=4") as caught:
            await batcher.submit(KEY, row(3, rows=2), deadline(), "b")
        assert caught.value.retry_after_s
        backend.gate.set()
        await asyncio.gather(*tasks)

    run(work, Batching(max_rows=4, max_delay_s=60, max_queue=4))


@pytest.mark.parametrize(("backends", "busy_calls"), [(3, 1), (1, 3)])
def test_every_backend_is_busy_with_as_many_calls_as_it_is_told(
    backends: int, busy_calls: int
) -> None:
    async def work(backend: Backend, batcher: Batcher) -> None:
        tasks = [submit(batcher, row(value)) for value in range(1, 6)]
        await settle()
        assert backend.calls == [[1], [2], [3]]
        backend.gate.set()
        await asyncio.gather(*tasks)

    run(work, Batching(busy_calls=busy_calls), backends)


@pytest.mark.parametrize(("short_s", "at_once"), [(0.0, [[1], [2]]), (60.0, [[1]])])
def test_a_backend_that_answers_at_once_is_busy_with_one_call(
    short_s: float, at_once: list[list[int]]
) -> None:
    """Rows that wait for it go together: cheaper than a call of their own."""

    async def work(backend: Backend, batcher: Batcher) -> None:
        backend.gate.set()
        await submit(batcher, row(0))  # how long it takes is known from here on
        backend.gate.clear()
        tasks = [submit(batcher, row(value)) for value in range(1, 5)]
        await settle()
        assert backend.calls == [[0], *at_once]
        backend.gate.set()
        await asyncio.gather(*tasks)
        assert backend.calls[-1] == list(range(len(at_once) + 1, 5))

    run(work, Batching(busy_calls=2, short_s=short_s))
