"""What a Python program uses to ask a gateway; needs no TensorFlow.

with Client("127.0.0.1:9000") as client:
    print(client.predict("movie-sentiment", ["a fine film"]).results)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from numpy.typing import NDArray

from bundle import manifest
from bundle.manifest import Manifest
from bundle.postprocess import LabelScore
from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving import generation, tensors
from serving.errors import InvalidArgument, ServingError, error_of
from serving.generation import Generation, Sampling

Result = Sequence[LabelScore] | Mapping[str, NDArray[Any]] | ServingError

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_GREEDY = Sampling()


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Where the gateway's time went; `total_ms` leaves out the way there and back."""

    preprocess_ms: float
    backend_ms: float
    total_ms: float


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one call.

    Each of `results` belongs to the input at its place: its labels, the most probable first; or
    the error that this input alone had; or, of a language model, `logits` [1, V] of the next token.
    """

    model: str
    version: int
    results: Sequence[Result]
    timings: Timings

    @property
    def labels(self) -> Sequence[Sequence[LabelScore]]:
        """The results of a classifier.

        Raises:
            ServingError: the first input's that had one; or the model is no classifier.
        """
        for result in self.results:
            if isinstance(result, ServingError):
                raise result
            if isinstance(result, Mapping):
                raise InvalidArgument("model", f"{self.model} is no classifier: it has no labels")
        return self.results  # type: ignore[return-value]  # just checked


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """One model of the gateway; `serving_version` is 0 while none is served."""

    name: str
    task: str
    versions: Sequence[int]
    serving_version: int


class Client:
    """A connection to a gateway, made at the first call and kept; safe to share by threads.

    Every method raises one error of `serving.errors` for a status that isn't OK, with the
    gateway's message. Nothing is sent twice.

    Args:
        address: `host:port` of the gateway's gRPC.
        timeout_s: how long one call may take.
        max_message_bytes: of one request or answer.
    """

    def __init__(
        self, address: str, *, timeout_s: float = 30.0, max_message_bytes: int = 4 << 20
    ) -> None:
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
            ],
        )
        self._stub = InferenceStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def predict(self, model: str, inputs: Sequence[str | bytes], version: int = 0) -> Prediction:
        """Labels of 1..N texts or encoded pictures, in order.

        Args:
            version: 0 for the served one.

        Raises:
            InvalidArgument: every input, or something else in the request, is wrong.
            ServingError: the gateway's status, see `serving.errors`.
        """
        request = _predict_request(model, inputs, version)
        response = self._call(self._stub.Predict, request)
        return Prediction(
            model=response.model,
            version=response.model_version,
            results=[_result(result) for result in response.results],
            timings=Timings(
                preprocess_ms=response.timings.preprocess_ms,
                backend_ms=response.timings.backend_ms,
                total_ms=response.timings.total_ms,
            ),
        )

    def generate(
        self,
        model: str,
        prompt: str,
        *,
        max_new_tokens: int = 0,
        stop: Sequence[str] = (),
        sampling: Sampling = _GREEDY,
        version: int = 0,
    ) -> Generation:
        """Has a language model write on from a prompt.

        Args:
            max_new_tokens: 0 for as many as the gateway allows and the model's context holds.
            stop: texts that end the answer.
            version: 0 for the served one.

        Returns:
            The text, piece by piece as it comes.

        Raises:
            InvalidArgument: the prompt is not Unicode, or a number is out of range.
        """
        try:
            request = generation.request(
                model,
                prompt,
                max_new_tokens=max_new_tokens,
                stop=tuple(stop),
                sampling=sampling,
                version=version,
            )
        except (UnicodeEncodeError, ValueError) as error:
            raise InvalidArgument("request", f"can't be sent: {error}") from error
        return Generation(self._stub.Generate(request, timeout=self._timeout_s))

    def models(self) -> list[ModelSummary]:
        """Every model that is published, by name."""
        response = self._call(self._stub.ListModels, inference_pb2.ListModelsRequest())
        return [
            ModelSummary(
                name=model.name,
                task=model.task,
                versions=list(model.versions),
                serving_version=model.serving_version,
            )
            for model in response.models
        ]

    def model(self, name: str, version: int = 0) -> Manifest:
        """The manifest of a model.

        Args:
            version: 0 for the served one.

        Raises:
            UnknownModel: there is no such model or version.
        """
        request = inference_pb2.GetModelRequest(model=name, version=version)
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

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            # Every error of a call has these; the base class just doesn't say so.
            code, details = error.code(), error.details() or ""
            if code is grpc.StatusCode.CANCELLED:  # not by us: a server that ends says so
                code, details = grpc.StatusCode.UNAVAILABLE, "the gateway ends; ask again"
            raise error_of(code, details) from error


def _predict_request(
    model: str, given: Sequence[str | bytes], version: int
) -> inference_pb2.PredictRequest:
    inputs = []
    for place, raw in enumerate(given):
        if isinstance(raw, bytes):
            inputs.append(inference_pb2.Input(image=raw))
            continue
        try:
            inputs.append(inference_pb2.Input(text=raw))
        except UnicodeEncodeError as error:
            problem = f"can't be written as UTF-8: {error.reason}; send whole characters"
            raise InvalidArgument(f"inputs[{place}].text", problem) from error
    return inference_pb2.PredictRequest(model=model, version=version, inputs=inputs)


def _result(result: inference_pb2.Result) -> Result:
    if result.HasField("error"):
        error = result.error
        return error_of(
            _CODES.get(error.code, grpc.StatusCode.UNKNOWN), f"{error.field}: {error.message}"
        )
    if result.HasField("tensors"):
        named = result.tensors.tensors
        return {name: tensors.decode(value, name) for name, value in named.items()}
    return [LabelScore(item.label, item.score) for item in result.labels.labels]
