"""Laws of streams: answers in order, few requests in memory, nothing left when one side goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from bundle.postprocess import rank_labels
from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving.errors import InvalidArgument
from serving.gateway.bulk import in_order


async def numbers(count: int, read: list[int] | None = None) -> AsyncIterator[bytes]:
    for number in range(count):
        if read is not None:
            read.append(number)
        yield str(number).encode()


def test_answers_keep_the_order_however_long_each_takes() -> None:
    async def answer(request: bytes) -> bytes:
        for _ in range(7 - int(request) % 7):
            await asyncio.sleep(0)
        return request * 2

    async def work() -> list[bytes]:
        return [each async for each in in_order(numbers(50), answer, window=4, idle_s=10)]

    assert asyncio.run(work()) == [2 * str(number).encode() for number in range(50)]


def test_no_more_than_the_window_is_read_before_it_is_taken() -> None:
    async def answer(request: bytes) -> bytes:
        return request

    async def work() -> None:
        read: list[int] = []
        taken = 0
        async for _ in in_order(numbers(100, read), answer, window=4, idle_s=10):
            taken += 1
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(read) <= taken + 4
        assert taken == 100

    asyncio.run(work())


def test_the_first_failure_ends_the_stream_and_cancels_the_rest() -> None:
    cancelled = 0

    async def answer(request: bytes) -> bytes:
        nonlocal cancelled
        if request == b"2":
            raise InvalidArgument("inputs", "is wrong")
        if request in {b"0", b"1"}:
            return request
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return b""

    async def work() -> list[bytes]:
        found: list[bytes] = []

        async def read() -> None:
            async for each in in_order(numbers(100), answer, window=4, idle_s=10):
                await asyncio.sleep(0.01)
                found.append(each)

        with pytest.raises(InvalidArgument):
            await read()
        await asyncio.sleep(0)
        return found

    assert asyncio.run(work()) == [b"0", b"1"]
    assert cancelled in {2, 3}


def test_a_caller_that_sends_nothing_for_long_is_let_go() -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b"1"
        await asyncio.Event().wait()

    async def answer(request: bytes) -> bytes:
        return request

    async def work() -> None:
        answers = in_order(silent(), answer, window=4, idle_s=0.02)
        assert await anext(answers) == b"1"
        with pytest.raises(TimeoutError):
            await anext(answers)

    asyncio.run(work())


def request(*texts: str, model: str = "tiny") -> inference_pb2.PredictRequest:
    inputs = [inference_pb2.Input(text=text) for text in texts]
    return inference_pb2.PredictRequest(model=model, inputs=inputs)


@pytest.fixture
def stub(channel: grpc.Channel) -> InferenceStub:
    return InferenceStub(channel)


def test_a_stream_answers_each_request_as_predict_would(
    stub: InferenceStub, expected: Callable[..., Any]
) -> None:
    texts = ["good", "bad film", "", "a very good film , but a dull plot !", "awful"] * 40
    requests = [request(*texts[start : start + 3]) for start in range(0, len(texts), 3)]
    responses = list(stub.PredictStream(iter(requests), timeout=30))
    assert len(responses) == len(requests)
    results = [result for response in responses for result in response.results]
    for text, result in zip(texts, results, strict=True):
        if not text:
            assert result.error.field.endswith(".text")
            continue
        best = rank_labels(expected(text)[None], ["negative", "positive"])[0][0]
        assert result.labels.labels[0].label == best.label
        assert result.labels.labels[0].score == pytest.approx(best.score, abs=1e-5)


def test_one_request_that_is_all_wrong_does_not_end_it_but_an_unknown_model_does(
    stub: InferenceStub,
) -> None:
    answers = stub.PredictStream(iter([request("", " "), request("good")]), timeout=20)
    assert [result.error.code for result in next(answers).results] == [3, 3]
    assert next(answers).results[0].labels.labels
    answers = stub.PredictStream(iter([request("good"), request("x", model="no")]), timeout=20)
    next(answers)
    with pytest.raises(grpc.RpcError, match="model: 'no' is not published"):
        next(answers)


def test_who_waits_for_each_answer_before_the_next_request_gets_it(stub: InferenceStub) -> None:
    import queue

    asked: queue.Queue[Any] = queue.Queue()
    answers = stub.PredictStream(iter(asked.get, None), timeout=20)
    for _ in range(3):
        asked.put(request("good"))
        assert next(answers).results[0].labels.labels
    asked.put(None)
    assert list(answers) == []


def endless() -> Iterator[inference_pb2.PredictRequest]:
    while True:
        yield request(*["good film"] * 200)


def test_a_reader_that_stands_still_gives_its_place_to_another(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    options = [("grpc.http2.bdp_probe", 0)]  # else its window grows to many megabytes
    with (
        running(make_config(idle_timeout_s=0.5, max_streams=1)) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel,
    ):
        still = InferenceStub(channel).PredictStream(endless(), timeout=30)
        next(still)

        def another_is_answered() -> bool:
            answers = InferenceStub(channel).PredictStream(iter([request("good")]), timeout=20)
            try:
                return len(list(answers)) == 1
            except grpc.RpcError as error:
                assert "max_streams=1" in error.details()  # noqa: PT017
                return False

        assert not another_is_answered()
        eventually(another_is_answered)
        still.cancel()


def test_readers_that_stand_still_do_not_add_up_until_nobody_is_answered(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    eventually: Callable[[Callable[[], bool]], None],
) -> None:
    """gRPC counts a call until its end has reached the caller, who reads no more."""
    options = [("grpc.http2.bdp_probe", 0)]
    with (
        running(make_config(idle_timeout_s=0.2, max_streams=1, max_in_flight=1)) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}", options=options) as channel,
    ):
        still: list[Any] = []

        def one_more_stands_still() -> bool:
            answers = InferenceStub(channel).PredictStream(endless(), timeout=30)
            try:
                next(answers)
            except grpc.RpcError as error:
                assert "max_streams=1" in error.details()  # noqa: PT017
                return False
            still.append(answers)
            return True

        for _ in range(3):
            eventually(one_more_stands_still)
        with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as other:
            assert InferenceStub(other).Predict(request("good"), timeout=20).model_version == 1
        for answers in still:
            answers.cancel()


def test_a_caller_that_goes_away_leaves_nothing_at_the_backend(
    stub: InferenceStub, serving: Any
) -> None:
    serving.gate.clear()
    answers = stub.PredictStream(iter([request("good"), request("bad")]), timeout=20)
    assert serving.entered.acquire(timeout=10)
    answers.cancel()
    assert serving.abandoned.acquire(timeout=10)
