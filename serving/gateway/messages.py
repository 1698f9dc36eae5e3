"""Messages of the public API ↔ the predictor's inputs and outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from protos import inference_pb2
from serving import tensors
from serving.errors import InvalidArgument, LimitExceeded, status_of
from serving.gateway.generator import Piece, Reason, Wish
from serving.gateway.inputs import Input
from serving.gateway.predictor import Answer, Outcome
from serving.gateway.types import shown

_REASONS: Mapping[Reason, inference_pb2.StopReason] = {
    "end": inference_pb2.STOP_REASON_END,
    "stop": inference_pb2.STOP_REASON_STOP,
    "length": inference_pb2.STOP_REASON_LENGTH,
}


def read_inputs(request: inference_pb2.PredictRequest, max_inputs: int) -> Sequence[Input]:
    """The request's inputs; one that can't be read is its own error.

    Raises:
        InvalidArgument: there are none.
        LimitExceeded: there are more than `max_inputs`.
    """
    count = len(request.inputs)
    if count > max_inputs:
        raise LimitExceeded(f"inputs: {count} in one call; the limit is max_inputs={max_inputs}")
    if not request.inputs:
        raise InvalidArgument("inputs", f"is empty; send 1 to {max_inputs}")
    return [_read_input(value, f"inputs[{place}]") for place, value in enumerate(request.inputs)]


def read_wish(request: inference_pb2.GenerateRequest) -> Wish:
    """What a text should be like.

    Raises:
        InvalidArgument: a number is out of range; names it.
    """
    sampling = request.sampling
    return Wish(
        prompt=request.prompt,
        max_new_tokens=request.max_new_tokens,
        stop=tuple(request.stop),
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed if sampling.HasField("seed") else None,
    )


def write_piece(piece: Piece) -> inference_pb2.GenerateResponse:
    """A part of a text; the last one with its reason and usage."""
    response = inference_pb2.GenerateResponse(text=piece.text, model_version=piece.version)
    if piece.reason and piece.usage:
        response.stop_reason = _REASONS[piece.reason]
        usage = piece.usage
        response.usage.prompt_tokens = usage.prompt_tokens
        response.usage.new_tokens = usage.new_tokens
        response.usage.first_token_ms = usage.first_token_s * 1e3
        response.usage.total_ms = usage.total_s * 1e3
    return response


def _read_input(value: inference_pb2.Input, field: str) -> Input:
    match value.WhichOneof("value"):
        case "text":
            return value.text
        case "tensors":
            return _read_tensors(value.tensors, f"{field}.tensors")
        case "image":
            return value.image
        case _:
            return InvalidArgument(field, "is empty; send `text`, `image` or `tensors`")


def _read_tensors(named: inference_pb2.NamedTensors, field: str) -> Input:
    try:
        return {
            name: tensors.decode(value, f"{field}[{shown(name)}]")
            for name, value in named.tensors.items()
        }
    except InvalidArgument as error:
        return error


def write_answer(model: str, answer: Answer, total_s: float) -> inference_pb2.PredictResponse:
    """The response to a call that took `total_s` so far."""
    response = inference_pb2.PredictResponse(model=model, model_version=answer.version)
    for outcome in answer.outcomes:
        _write_outcome(response.results.add(), outcome)
    timings = response.timings
    timings.preprocess_ms = answer.preprocess_s * 1e3
    timings.backend_ms = answer.backend_s * 1e3
    timings.total_ms = total_s * 1e3
    return response


def _write_outcome(result: inference_pb2.Result, outcome: Outcome) -> None:
    """Fills an empty result in place: a message that is handed to another's is copied."""
    if isinstance(outcome, InvalidArgument):
        code, _ = status_of(outcome)
        result.error.code = code.value[0]
        result.error.field = outcome.field
        result.error.message = outcome.problem
    elif isinstance(outcome, Mapping):
        result.tensors.SetInParent()
        for name, array in outcome.items():
            result.tensors.tensors[name].CopyFrom(tensors.encode(array, name))
    else:
        labels = result.labels
        labels.SetInParent()
        for label, score in outcome:
            labels.labels.add(label=label, score=score)
