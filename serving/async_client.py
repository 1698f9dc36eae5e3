"""`client` for programs on an event loop; the same methods, awaited.

async with AsyncClient("127.0.0.1:9000") as client:
    print((await client.predict("movie-sentiment", ["a fine film"])).results)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
import grpc.aio

from bundle import manifest
from bundle.manifest import Manifest
from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving import answers, generation
from serving.answers import ModelSummary, Prediction, Result
from serving.connection import Connection, Settings, error_from
from serving.errors import BackendUnavailable
from serving.generation import AsyncGeneration, Sampling
from serving.stream import AsyncStream, Backlog

_GREEDY = Sampling()


class AsyncClient:
    """A connection to a gateway, made at the first call and kept; to be made on the loop it serves.

    Cancelling a call's task cancels the call on the gateway too. What is tried again, `Connection`
    tells.

    Args:
        address: `host:port` of the gateway's gRPC.
        settings: those of `Connection`: `timeout_s`, `retries`, `key`, `tls`, `max_message_bytes`.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, address: str, **settings: Unpack[Settings]) -> None:
        self._connection = Connection(address=address, **settings)
        tls, options = self._connection.tls, self._connection.options
        self._channel = (
            grpc.aio.secure_channel(address, tls.credentials(), options)
            if tls
            else grpc.aio.insecure_channel(address, options)
        )
        self._stub = InferenceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def predict(
        self,
        model: str,
        inputs: Sequence[str | bytes],
        version: int | str = 0,
        *,
        request_key: str = "",
    ) -> Prediction:
        """Labels of 1..N texts or encoded pictures, in order; see `Client.predict`."""
        request = answers.request_of(model, inputs, version)
        call = self._start(self._stub.Predict, request, request_key)
        return answers.prediction_of(await _answer(call))

    async def predict_many(
        self,
        model: str,
        inputs: Iterable[str | bytes],
        version: int | str = 0,
        *,
        batch: int = 32,
        in_flight: int = 8,
    ) -> AsyncIterator[Result]:
        """Labels of any number of inputs, in order, as they come; see `Client.predict_many`."""
        parts = answers.requests(
            model, inputs, version, most=batch, most_bytes=self._connection.max_message_bytes // 2
        )
        backlog = Backlog(parts, in_flight, self._connection)
        stream = self._stream()
        try:
            while backlog.fill(stream.send):
                try:
                    response = await stream.answer()
                except BackendUnavailable as error:
                    stream.cancel()
                    await asyncio.sleep(backlog.pause_s(error))
                    stream = self._stream()
                    backlog.resend(stream.send)
                else:
                    for result in backlog.take(response):
                        yield result
        finally:
            stream.cancel()

    def generate(
        self,
        model: str,
        prompt: str,
        *,
        max_new_tokens: int = 0,
        stop: Sequence[str] = (),
        sampling: Sampling = _GREEDY,
        version: int | str = 0,
        request_key: str = "",
    ) -> AsyncGeneration:
        """Has a language model write on from a prompt; see `Client.generate`."""
        request = generation.request(
            model,
            prompt,
            max_new_tokens=max_new_tokens,
            stop=tuple(stop),
            sampling=sampling,
            version=version,
        )
        return AsyncGeneration(self._start(self._stub.Generate, request, request_key))

    async def models(self) -> list[ModelSummary]:
        """Every model that is published, by name."""
        call = self._start(self._stub.ListModels, inference_pb2.ListModelsRequest())
        return answers.summaries_of(await _answer(call))

    async def model(self, name: str, version: int | str = 0) -> Manifest:
        """The manifest of a model; see `Client.model`."""
        fields = answers.version_fields(version)
        request = inference_pb2.GetModelRequest(model=name, **fields)
        response = await _answer(self._start(self._stub.GetModel, request))
        return manifest.decode(response.manifest_json.encode(), origin=f"gateway, model {name}")

    async def close(self) -> None:
        """Ends the connection, and every call on it."""
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _stream(self) -> AsyncStream:
        return AsyncStream(self._stub.PredictStream, self._connection)

    def _start(self, method: Callable[..., Any], request: Any, request_key: str = "") -> Any:
        connection = self._connection
        metadata = connection.metadata(request_key)
        return method(request, timeout=connection.timeout_s, metadata=metadata)


async def _answer(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except grpc.RpcError as error:
        raise error_from(error) from error
