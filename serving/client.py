"""What a Python program uses to ask a gateway; needs no TensorFlow.

with Client("127.0.0.1:9000") as client:
    print(client.predict("movie-sentiment", ["a fine film"]).results)

`async_client` is the same for programs on an event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from bundle import manifest
from bundle.manifest import Manifest
from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving import answers, generation
from serving.answers import ModelSummary, Prediction, Result, Timings
from serving.connection import Connection, Settings, Tls, error_from
from serving.errors import BackendUnavailable
from serving.generation import Generation, Sampling
from serving.stream import Backlog, Stream

__all__ = ["Client", "ModelSummary", "Prediction", "Result", "Sampling", "Timings", "Tls"]

_GREEDY = Sampling()


class Client:
    """A connection to a gateway, made at the first call and kept; safe to share by threads.

    Every method raises one error of `serving.errors` for a status that isn't OK, with the
    gateway's message. What is tried again, `Connection` tells.

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
            grpc.secure_channel(address, tls.credentials(), options)
            if tls
            else grpc.insecure_channel(address, options)
        )
        self._stub = InferenceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def predict(
        self,
        model: str,
        inputs: Sequence[str | bytes],
        version: int | str = 0,
        *,
        request_key: str = "",
    ) -> Prediction:
        """Labels of 1..N texts or encoded pictures, in order.

        Args:
            version: a number, 0 for the served one; or a label of the gateway's configuration.
            request_key: keeps its bearer on one version of a model that is split.

        Raises:
            InvalidArgument: every input, or something else in the request, is wrong.
            ServingError: the gateway's status, see `serving.errors`.
        """
        request = answers.request_of(model, inputs, version)
        return answers.prediction_of(self._call(self._stub.Predict, request, request_key))

    def predict_many(
        self,
        model: str,
        inputs: Iterable[str | bytes],
        version: int | str = 0,
        *,
        batch: int = 32,
        in_flight: int = 8,
    ) -> Iterator[Result]:
        """Labels of any number of texts or encoded pictures, in order, as they come.

        Inputs are read as answers are taken: no more than `batch` × `in_flight` are in memory. Each
        call may take `timeout_s`. When the gateway goes away, what has no answer yet is asked again
        once it is back.

        Args:
            version: as of `predict`.
            batch: inputs in one request.
            in_flight: requests that are sent ahead of their answers.

        Yields:
            One result for each input, as in `Prediction.results`; an error names the input by its
            number among all.

        Raises:
            ServingError: a request failed as a whole; what was answered before it came.
        """
        parts = answers.requests(
            model, inputs, version, most=batch, most_bytes=self._connection.max_message_bytes // 2
        )
        backlog = Backlog(parts, in_flight, self._connection)
        stream = self._stream()
        try:
            while backlog.fill(stream.send):
                try:
                    response = stream.answer()
                except BackendUnavailable as error:
                    stream.cancel()
                    time.sleep(backlog.pause_s(error))
                    stream = self._stream()
                    backlog.resend(stream.send)
                else:
                    yield from backlog.take(response)
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
    ) -> Generation:
        """Has a language model write on from a prompt.

        Args:
            max_new_tokens: 0 for as many as the gateway allows and the model's context holds.
            stop: texts that end the answer.
            version: as of `predict`.
            request_key: as of `predict`.

        Returns:
            The text, piece by piece as it comes.

        Raises:
            InvalidArgument: the prompt is not Unicode, or a number is out of range.
        """
        request = generation.request(
            model,
            prompt,
            max_new_tokens=max_new_tokens,
            stop=tuple(stop),
            sampling=sampling,
            version=version,
        )
        return Generation(self._start(self._stub.Generate, request, request_key))

    def models(self) -> list[ModelSummary]:
        """Every model that is published, by name."""
        request = inference_pb2.ListModelsRequest()
        return answers.summaries_of(self._call(self._stub.ListModels, request))

    def model(self, name: str, version: int | str = 0) -> Manifest:
        """The manifest of a model.

        Args:
            version: as of `predict`.

        Raises:
            UnknownModel: there is no such model or version.
        """
        fields = answers.version_fields(version)
        request = inference_pb2.GetModelRequest(model=name, **fields)
        response = self._call(self._stub.GetModel, request)
        return manifest.decode(response.manifest_json.encode(), origin=f"gateway, model {name}")

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stream(self) -> Stream:
        return Stream(self._stub.PredictStream, self._connection)

    def _start(self, method: Callable[..., Any], request: Any, request_key: str = "") -> Any:
        connection = self._connection
        metadata = connection.metadata(request_key)
        return method(request, timeout=connection.timeout_s, metadata=metadata)

    def _call(self, method: Callable[..., Any], request: Any, request_key: str = "") -> Any:
        try:
            return self._start(method, request, request_key)
        except grpc.RpcError as error:
            raise error_from(error) from error
