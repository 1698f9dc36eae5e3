"""A text that a gateway's language model is writing, as a client reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import grpc

from protos import inference_pb2
from serving.answers import version_fields
from serving.connection import error_from
from serving.errors import InvalidArgument, ServingError

StopReason = Literal["end", "stop", "length"]

_REASONS: dict[int, StopReason] = {
    inference_pb2.STOP_REASON_END: "end",
    inference_pb2.STOP_REASON_STOP: "stop",
    inference_pb2.STOP_REASON_LENGTH: "length",
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen; by default the most probable one each time.

    Args:
        temperature: above 1 makes the improbable likelier, 0 leaves nothing to chance.
        top_k: among so many of the most probable; 0 for all.
        top_p: among the fewest that have this probability together; 1 for all.
        repetition_penalty: above 1 makes tokens that are there already less probable.
        seed: the same one gives the same text; without one, each call draws its own.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Why a text ended, and what it took."""

    reason: StopReason  # the model's end, one of `stop`, or `max_new_tokens` or the context
    version: int
    prompt_tokens: int
    new_tokens: int
    first_token_ms: float
    total_ms: float


class Generation:
    """Pieces of text as they come, to be iterated over once.

    `ending` is None until the last piece came.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self.ending: Ending | None = None

    def __iter__(self) -> Iterator[str]:
        """The pieces; together they are the text.

        Raises:
            ServingError: the gateway's status, see `serving.errors`.
        """
        try:
            for message in self._call:
                self.ending = _ending(message)
                if message.text:
                    yield message.text
        except grpc.RpcError as error:
            raise error_from(error) from error
        finally:
            self.cancel()
        _check(self.ending)

    def text(self) -> str:
        """The whole text, once it is there."""
        return "".join(self)

    def cancel(self) -> None:
        """Has the gateway stop; of no effect on a text that ended."""
        self._call.cancel()


class AsyncGeneration:
    """`Generation` for an event loop, to be iterated over once with `async for`."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.ending: Ending | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        """The pieces; see `Generation.__iter__`."""
        try:
            async for message in self._call:
                self.ending = _ending(message)
                if message.text:
                    yield message.text
        except grpc.RpcError as error:
            raise error_from(error) from error
        finally:
            self.cancel()
        _check(self.ending)

    async def text(self) -> str:
        """The whole text, once it is there."""
        return "".join([piece async for piece in self])

    def cancel(self) -> None:
        """Has the gateway stop; of no effect on a text that ended."""
        self._call.cancel()


def request(
    model: str,
    prompt: str,
    *,
    max_new_tokens: int,
    stop: tuple[str, ...],
    sampling: Sampling,
    version: int | str,
) -> inference_pb2.GenerateRequest:
    """What the gateway is asked for a text.

    Raises:
        InvalidArgument: the prompt is not Unicode, or a number is out of range.
    """
    try:
        return inference_pb2.GenerateRequest(
            model=model,
            prompt=prompt,
            max_new_tokens=max_new_tokens,
            stop=stop,
            sampling=inference_pb2.Sampling(
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                repetition_penalty=sampling.repetition_penalty,
                seed=sampling.seed,
            ),
            **version_fields(version),
        )
    except (UnicodeEncodeError, ValueError) as error:
        raise InvalidArgument("request", f"can't be sent: {error}") from error


def _check(ending: Ending | None) -> None:
    if ending is None:
        raise ServingError("the gateway ended the text without a reason; ask again")


def _ending(message: inference_pb2.GenerateResponse) -> Ending | None:
    if not message.stop_reason:
        return None
    usage = message.usage
    return Ending(
        reason=_REASONS[message.stop_reason],
        version=message.model_version,
        prompt_tokens=usage.prompt_tokens,
        new_tokens=usage.new_tokens,
        first_token_ms=usage.first_token_ms,
        total_ms=usage.total_ms,
    )
