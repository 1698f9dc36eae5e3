"""Laws of several backends: each call is answered while one of them can, and by one that may."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from bundle import golden
from protos import tfs_pb2
from serving.errors import BackendFault, BackendUnavailable, InvalidArgument, UnknownModel
from serving.gateway.pool import RELOAD, Pool
from serving.gateway.types import Deadline, ModelKey

ONE = {"input_ids": np.int32([[2, 9]]), "attention_mask": np.int32([[1, 1]])}
KEY = ModelKey("tiny", 1)
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

Use = Callable[..., Any]


@pytest.fixture
def other(serving: Any) -> Iterator[Any]:
    """A second backend."""
    server = type(serving)()
    server.start()
    yield server
    server.gate.set()
    server.stop()


@pytest.fixture
def failed() -> list[str]:
    """Addresses that failed a call which then was asked elsewhere."""
    return []


@pytest.fixture
def use(
    make_config: Callable[..., Any], serving: Any, other: Any, failed: list[str]
) -> Callable[..., Any]:
    """Does something with a pool of both."""

    def run(action: Callable[[Pool], Awaitable[Any]], **changes: Any) -> Any:
        async def work() -> Any:
            given = {"backend": (serving.address, other.address)} | changes
            pool = Pool(msgspec.structs.replace(make_config(), **given), failed.append)
            try:
                return await action(pool)
            finally:
                await pool.close()

        return asyncio.run(work())

    return run


async def ask(pool: Pool, key: ModelKey = KEY, timeout_s: float = 10) -> Any:
    return (await pool.execute(key, ONE, Deadline.after(timeout_s)))["logits"]


async def connect(pool: Pool) -> None:
    """Waits until both can be asked."""
    while pool.ready(ModelKey("tiny", 0)) < 2:  # noqa: ASYNC110  (nothing tells of it)
        await asyncio.sleep(0.01)


def test_calls_are_spread_over_both(use: Use, serving: Any, other: Any, failed: list[str]) -> None:
    async def work(pool: Pool) -> None:
        await connect(pool)
        await asyncio.gather(*(ask(pool) for _ in range(20)))

    # Both have every version, so what the catalog would have found out need not be there.
    use(work)
    assert len(serving.shapes) == len(other.shapes) == 10
    assert failed == []


@pytest.mark.parametrize(
    "fault",
    [
        (grpc.StatusCode.UNAVAILABLE, ""),
        (grpc.StatusCode.NOT_FOUND, ""),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
        (grpc.StatusCode.INTERNAL, ""),
    ],
    ids=lambda fault: fault[0].name,
)
def test_what_one_can_not_answer_another_does(
    use: Use, serving: Any, other: Any, failed: list[str], fault: tuple[grpc.StatusCode, str]
) -> None:
    serving.fault = fault

    async def work(pool: Pool) -> None:
        for _ in range(6):
            assert (await ask(pool)).shape == (1, 2)

    use(work)
    assert set(failed) <= {serving.address}
    assert len(other.shapes) == 6


def test_what_the_caller_did_wrong_is_asked_once(use: Use, serving: Any, other: Any) -> None:
    serving.fault = other.fault = (grpc.StatusCode.INVALID_ARGUMENT, "no")
    with pytest.raises(InvalidArgument):
        use(ask)
    assert len(serving.left_s) + len(other.left_s) == 1


def test_if_none_can_the_first_ones_answer_counts(use: Use, serving: Any, other: Any) -> None:
    serving.fault = other.fault = (grpc.StatusCode.INTERNAL, "broken")
    with pytest.raises(BackendFault):
        use(ask)
    serving.stop()
    other.stop()
    with pytest.raises(BackendUnavailable, match="does not answer now"):
        use(ask)


def test_who_has_the_version_is_asked_first(use: Use, serving: Any, other: Any) -> None:
    serving.served["tiny"], other.served["tiny"] = {1}, {2}

    async def work(pool: Pool) -> None:
        for version in (1, 2, 1, 2):
            await ask(pool, ModelKey("tiny", version))
        with pytest.raises(UnknownModel):
            await ask(pool, ModelKey("tiny", 3))

    use(work)
    assert len(serving.shapes) == len(other.shapes) == 2


def test_who_failed_several_times_in_a_row_is_set_aside(
    use: Use, serving: Any, other: Any, failed: list[str]
) -> None:
    serving.fault = (grpc.StatusCode.INTERNAL, "")

    async def work(pool: Pool) -> None:
        await connect(pool)
        for _ in range(40):
            await ask(pool)

    use(work)
    assert failed == [serving.address] * 5
    assert len(other.shapes) == 40


def test_a_backend_that_leaves_the_configuration_ends_what_it_has_begun(
    use: Use, make_config: Callable[..., Any], serving: Any, other: Any
) -> None:
    other.served["tiny"] = set()
    serving.gate.clear()

    async def work(pool: Pool) -> Any:
        begun = asyncio.create_task(ask(pool))
        await asyncio.to_thread(serving.entered.acquire)
        other.served["tiny"] = {1}
        pool.apply(msgspec.structs.replace(make_config(), backend=other.address))
        assert (await ask(pool)).shape == (1, 2)
        assert len(other.shapes) == 1
        serving.gate.set()
        return await begun

    assert use(work).shape == (1, 2)


def test_models_have_backends_of_their_own(use: Use, serving: Any, other: Any) -> None:
    use(ask, backends={"tiny": other.address}, backend=serving.address)
    assert (len(serving.shapes), len(other.shapes)) == (0, 1)


def test_a_version_that_answers_wrongly_on_one_backend_is_withheld_there_alone(
    use: Use, serving: Any, other: Any, publish_golden: Any
) -> None:
    model = publish_golden()
    wrong = {"logits": tfs_pb2.TensorProto(dtype="DT_FLOAT", float_val=[9.0, -9.0])}
    for size in (1, 2):
        wrong["logits"].tensor_shape.dim.add(size=size)
    serving.outputs = wrong

    async def work(pool: Pool) -> None:
        assert await pool.available("tiny", {1: model}) == {1}
        assert list(pool.withheld) == [KEY]
        before = len(serving.left_s)
        for _ in range(4):
            await ask(pool)
        assert len(serving.left_s) == before
        serving.served["tiny"] = set()  # it unloads it: what it brings next is another one
        await pool.available("tiny", {1: model})
        assert pool.withheld == {}

    use(work)


@pytest.fixture
def publish_golden(models: Any, expected: Callable[..., Any]) -> Callable[[], Any]:
    """A model that says what it must answer."""
    import dataclasses

    from bundle.repository import ModelRepository
    from serving.gateway.published import Published

    def make() -> Any:
        model = Published(ModelRepository(models)).scan()["tiny"].versions[1]
        examples = golden.make(["good"], expected("good")[None], tolerance=1e-3)
        return dataclasses.replace(model, golden=examples)

    return make


def test_every_backend_reloads_and_bytes_pass_by_the_same_rules(
    use: Use, serving: Any, other: Any
) -> None:
    serving.served = {}
    request = tfs_pb2.GetModelStatusRequest(model_spec={"name": "tiny"}).SerializeToString()

    async def forward(pool: Pool, method: str) -> Any:
        return await pool.forward(method, "tiny", request, metadata=(), deadline=Deadline.after(9))

    answer = use(lambda pool: forward(pool, STATUS))
    (status,) = tfs_pb2.GetModelStatusResponse.FromString(answer).model_version_status
    assert status.version == 1  # `other` has it
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        use(lambda pool: forward(pool, RELOAD))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
