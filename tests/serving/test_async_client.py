"""Laws of the asynchronous client: the other one's answers, and calls that can be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from serving.async_client import AsyncClient
from serving.client import Client
from serving.errors import (
    BackendUnavailable,
    InvalidArgument,
    LimitExceeded,
    ServingError,
    UnknownModel,
)

TEXTS = ["good film", "awful", "", "not dull at all"] * 20


def scores(result: Any) -> Any:
    if isinstance(result, ServingError):
        return str(result)
    return [(item.label, pytest.approx(item.score, abs=1e-6)) for item in result]


@contextlib.asynccontextmanager
async def in_thread(context: contextlib.AbstractContextManager[Any]) -> AsyncIterator[Any]:
    """Enters and leaves a context that blocks."""
    yield await asyncio.to_thread(context.__enter__)
    await asyncio.to_thread(context.__exit__, None, None, None)


def test_both_clients_give_the_same(gateway: Any) -> None:
    address = f"127.0.0.1:{gateway.port}"

    async def ask() -> Any:
        async with AsyncClient(address) as client:
            calls = (client.predict("tiny", [text]) for text in TEXTS[:2])
            alone = await asyncio.gather(*calls)
            many = [each async for each in client.predict_many("tiny", TEXTS, batch=3, in_flight=4)]
            return alone, many, await client.models(), await client.model("tiny")

    alone, many, models, manifest = asyncio.run(ask())
    with Client(address) as client:
        same = list(client.predict_many("tiny", TEXTS, batch=7))
        assert [scores(each) for each in many] == [scores(each) for each in same]
        assert [scores(each.results[0]) for each in alone] == [scores(each) for each in same[:2]]
        assert (models, manifest) == (client.models(), client.model("tiny"))


@pytest.mark.parametrize(
    ("model", "texts", "kind"),
    [
        ("none", ["good"], UnknownModel),
        ("tiny", [], InvalidArgument),
        ("tiny", [""] * 2000, LimitExceeded),
    ],
)
def test_each_refusal_is_one_error(
    gateway: Any, model: str, texts: list[str], kind: type[ServingError]
) -> None:
    async def ask() -> None:
        async with AsyncClient(f"127.0.0.1:{gateway.port}") as client:
            await client.predict(model, texts)

    with pytest.raises(kind):
        asyncio.run(ask())


def test_a_gateway_that_is_not_there_is_unavailable() -> None:
    async def ask() -> None:
        async with AsyncClient("127.0.0.1:1", retries=0) as client:
            await client.models()

    with pytest.raises(BackendUnavailable):
        asyncio.run(ask())


def test_cancelling_a_call_cancels_it_everywhere(gateway: Any, serving: Any) -> None:
    serving.gate.clear()

    async def ask() -> None:
        async with AsyncClient(f"127.0.0.1:{gateway.port}") as client:
            call = asyncio.ensure_future(client.predict("tiny", ["good"]))
            await asyncio.to_thread(serving.entered.acquire, timeout=20)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    while serving.entered.acquire(blocking=False):  # the golden inputs
        pass
    asyncio.run(ask())
    assert serving.abandoned.acquire(timeout=20)


def test_what_a_gateway_left_unanswered_the_next_one_answers(
    make_config: Callable[..., Any], running: Callable[..., Any]
) -> None:
    first, second = make_config(drain_s=0.1), make_config()

    async def ask() -> tuple[list[Any], list[Any]]:
        async with in_thread(running(first)) as gateway:
            client = AsyncClient(f"127.0.0.1:{gateway.port}", retries=4)
            whole = [scores(each) async for each in client.predict_many("tiny", TEXTS)]
            results = client.predict_many("tiny", TEXTS, batch=2, in_flight=3)
            found = [await anext(results)]
            again = msgspec.structs.replace(second, port=gateway.port)
        async with in_thread(running(again)), client:
            found += [each async for each in results]
        return [scores(each) for each in found], whole

    found, whole = asyncio.run(ask())
    assert found == whole


def test_whoever_stops_reading_cancels_what_was_asked_ahead(gateway: Any, serving: Any) -> None:
    async def ask() -> None:
        async with AsyncClient(f"127.0.0.1:{gateway.port}") as client:
            results = client.predict_many("tiny", TEXTS, batch=5, in_flight=2)
            assert not isinstance(await anext(results), ServingError)
            serving.gate.clear()
            for _ in range(4):
                await anext(results)
            waits = asyncio.ensure_future(anext(results))
            await asyncio.sleep(0)
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)

    asyncio.run(ask())
