"""What apps of this device may ask of a bundle, apart from how their messages travel.

    Predictions   {"inputs": [{"text": "a fine film"}, {"image": "<base64>"}]}  ─►  one answer

    Texts         {"prompt": "Once upon", "max_new_tokens": 32}  ─►  {"text": " a"}
                                                                     {"text": " time"}
                                                                     {"done": true}

Of texts, one is written at a time, since each takes the memory and the time of all positions.
"""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Generator, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from bundle.errors import InputError
from bundle.manifest import Record
from bundle.postprocess import LabelScore
from bundle.preprocess import Raw
from edge.runner import EdgeRunner

MAX_INPUTS = 64
RETRY_AFTER_S = 1

Answer = dict[str, Any]
Lines = Generator[Answer, None, None]
Message = TypeVar("Message", bound=Record)


class Refused(Exception):
    """What is wrong with a request.

    Args:
        retry_after_s: when it may be made again as it is; None for never.
    """

    def __init__(self, status: HTTPStatus, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class _Input(Record, frozen=True, kw_only=True):
    text: str | None = None
    image: str | None = None  # base64


class _Inputs(Record, frozen=True, kw_only=True):
    inputs: tuple[_Input, ...]


class _Prompt(Record, frozen=True, kw_only=True, omit_defaults=True):
    """See `Sampling`; what is left out has its defaults."""

    prompt: str
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class _Once:
    """Calls something after the first answer, and then no more."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._left = [call]

    def __call__(self) -> None:
        if self._left:
            self._left.pop()()


class Predictions:
    """The runner, behind a lock: an interpreter keeps state while it runs.

    Args:
        answered: called after the first answer.
    """

    def __init__(self, runner: EdgeRunner, answered: Callable[[], None]) -> None:
        self._runner, self._answered = runner, _Once(answered)
        self._lock = threading.Lock()
        self.path = f"/v1/models/{runner.manifest.name}:predict"

    def answer(self, body: bytes) -> Answer:
        """One result for each input, in order.

        Raises:
            Refused: names the field, and what it may be.
        """
        request = _decoded(body, _Inputs)
        if not 1 <= len(request.inputs) <= MAX_INPUTS:
            problem = f"inputs: {len(request.inputs)} in one call; send 1 to {MAX_INPUTS}"
            raise Refused(HTTPStatus.BAD_REQUEST, problem)
        manifest = self._runner.manifest
        return {
            "model": manifest.name,
            "modelVersion": str(manifest.version),  # an int64, which JSON has as text
            "results": [self._result(each, place) for place, each in enumerate(request.inputs)],
        }

    def _result(self, given: _Input, place: int) -> Answer:
        try:
            with self._lock:
                labels = self._runner.predict(_raw(given, place))
                self._answered()
        except InputError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"inputs[{place}].{error}") from error
        return {"labels": {"labels": _json(labels)}}


class Texts:
    """The runner of a language model, for one text at a time.

    Args:
        answered: called after the first text.
    """

    def __init__(self, runner: EdgeRunner, answered: Callable[[], None]) -> None:
        self._runner, self._answered = runner, _Once(answered)
        self._free = threading.Lock()
        self.path = f"/v1/models/{runner.manifest.name}:generate"

    def answer(self, body: bytes) -> Lines:
        """Pieces of the text as they are written, and `done` after the last; to be closed.

        Raises:
            Refused: names the field, and what it may be; or another text is being written.
        """
        wish = _decoded(body, _Prompt)
        if not self._free.acquire(blocking=False):
            problem = f"busy: another text is being written; ask again in {RETRY_AFTER_S} s"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, problem, RETRY_AFTER_S)
        lines = self._lines(wish)
        try:
            next(lines)
        except InputError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        return lines

    def _lines(self, wish: _Prompt) -> Lines:
        try:
            pieces = self._runner.generate(**msgspec.to_builtins(wish))
            yield {}  # for `answer`: there is nothing wrong with the prompt
            for piece in pieces:
                yield {"text": piece}
            self._answered()
            yield {"done": True}
        finally:
            self._free.release()


def _decoded(body: bytes, kind: type[Message]) -> Message:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"body: {error}") from error


def _raw(given: _Input, place: int) -> Raw:
    if (given.text is None) == (given.image is None):
        problem = f"inputs[{place}]: has not exactly one of `text` and `image`; send one"
        raise Refused(HTTPStatus.BAD_REQUEST, problem)
    if given.image is None:
        return given.text or ""
    try:
        return base64.b64decode(given.image, validate=True)
    except (binascii.Error, ValueError) as error:
        problem = f"inputs[{place}].image: is no base64: {error}"
        raise Refused(HTTPStatus.BAD_REQUEST, problem) from error


def _json(labels: Sequence[LabelScore]) -> list[Answer]:
    return [{"label": item.label, "score": item.score} for item in labels]
