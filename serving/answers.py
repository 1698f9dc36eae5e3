"""What a gateway is asked and what it answers, as Python values: shared by both clients."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from numpy.typing import NDArray

from bundle.postprocess import LabelScore
from protos import inference_pb2
from serving import tensors
from serving.errors import InvalidArgument, ServingError, error_of

Result = Sequence[LabelScore] | Mapping[str, NDArray[Any]] | ServingError

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PLACE = re.compile(r"^inputs\[(\d+)\]")


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


def request_of(
    model: str, given: Iterable[str | bytes], version: int | str = 0, first: int = 0
) -> inference_pb2.PredictRequest:
    """What the gateway is asked about texts or encoded pictures.

    Args:
        version: a number, 0 for the served one; or a label of the gateway's configuration.
        first: the number of the first one, for the message.

    Raises:
        InvalidArgument: a text can't be sent; names it.
    """
    inputs = []
    for place, raw in enumerate(given, first):
        if isinstance(raw, bytes):
            inputs.append(inference_pb2.Input(image=raw))
            continue
        try:
            inputs.append(inference_pb2.Input(text=raw))
        except UnicodeEncodeError as error:
            problem = f"can't be written as UTF-8: {error.reason}; send whole characters"
            raise InvalidArgument(f"inputs[{place}].text", problem) from error
    return inference_pb2.PredictRequest(model=model, inputs=inputs, **version_fields(version))


def version_fields(version: int | str) -> dict[str, Any]:
    """The field of a request that says which version is asked."""
    return {"version_label": version} if isinstance(version, str) else {"version": version}


def requests(
    model: str, inputs: Iterable[str | bytes], version: int | str, *, most: int, most_bytes: int
) -> Iterator[tuple[int, inference_pb2.PredictRequest]]:
    """What the gateway is asked about any number of inputs, in parts; see `request_of`.

    Args:
        most: inputs in a part.
        most_bytes: of a part; an input that alone has more goes alone.

    Yields:
        The number of a part's first input, and the request.
    """
    first, part, taken = 0, list[str | bytes](), 0
    for raw in inputs:
        # A character takes at most four bytes; what frames it is little.
        size = (len(raw) if isinstance(raw, bytes) else 4 * len(raw)) + 16
        if part and (len(part) == most or taken + size > most_bytes):
            yield first, request_of(model, part, version, first)
            first, part, taken = first + len(part), [], 0
        part.append(raw)
        taken += size
    if part:
        yield first, request_of(model, part, version, first)


def prediction_of(response: inference_pb2.PredictResponse, first: int = 0) -> Prediction:
    """The answer that a message holds.

    Args:
        first: the number of its first input, for the messages of those that were wrong.
    """
    return Prediction(
        model=response.model,
        version=response.model_version,
        results=[_result(result, first) for result in response.results],
        timings=Timings(
            preprocess_ms=response.timings.preprocess_ms,
            backend_ms=response.timings.backend_ms,
            total_ms=response.timings.total_ms,
        ),
    )


def summaries_of(response: inference_pb2.ListModelsResponse) -> list[ModelSummary]:
    """The models that a message lists."""
    return [
        ModelSummary(
            name=model.name,
            task=model.task,
            versions=list(model.versions),
            serving_version=model.serving_version,
        )
        for model in response.models
    ]


def _result(result: inference_pb2.Result, first: int) -> Result:
    if result.HasField("error"):
        error = result.error
        field = _PLACE.sub(lambda found: f"inputs[{first + int(found[1])}]", error.field)
        code = _CODES.get(error.code, grpc.StatusCode.UNKNOWN)
        return error_of(code, f"{field}: {error.message}")
    if result.HasField("tensors"):
        named = result.tensors.tensors
        return {name: tensors.decode(value, name) for name, value in named.items()}
    return [LabelScore(item.label, item.score) for item in result.labels.labels]
