"""Text from a language model, piece by piece.

    prompt ─► tokens ─► prefill ─► cache ─► decode, a few steps ─► cache ─► decode …
                           │                       │
                           ▼                       ▼
                        token 1                 tokens 2 …  ─► whole characters ─► pieces

A backend keeps nothing between calls: what the model remembers travels with them. So any of
several backends can take the next steps, and they are cancelled by cancelling one call.

Knows neither messages nor sockets: the backend is a `Run`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bundle.detokenize import Detokenizer
from bundle.errors import InputError
from serving.errors import BackendFault, InvalidArgument, LimitExceeded
from serving.gateway.config import GatewayConfig
from serving.gateway.published import Model
from serving.gateway.types import Deadline, Run, Tensors

_PREFILL, _DECODE = "prefill", "decode"
_MOST_STEPS = 8  # in one call: some tens of milliseconds between pieces, few ways of the cache
_MOST_STOPS, _LONGEST_STOP = 16, 256  # texts, characters
_SEEDS = 1 << 31

Reason = Literal["end", "stop", "length"]
Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a caller asks for.

    Args:
        max_new_tokens: 0 for as many as there may be.
        top_k, top_p, repetition_penalty: 0 for no such rule.
        seed: None for one of its own.

    Raises:
        InvalidArgument: names the field, its value and the fix.
    """

    prompt: str
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 0.0
    repetition_penalty: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        _check("max_new_tokens", self.max_new_tokens, 0, _SEEDS)
        _check("sampling.temperature", self.temperature, 0, 100)
        _check("sampling.top_k", self.top_k, 0, _SEEDS)
        _check("sampling.top_p", self.top_p, 0, 1)
        _check("sampling.repetition_penalty", self.repetition_penalty, 0, 100)
        _check("sampling.seed", self.seed or 0, 0, _SEEDS)
        if len(self.stop) > _MOST_STOPS:
            raise InvalidArgument("stop", f"has {len(self.stop)} texts; send up to {_MOST_STOPS}")
        for place, text in enumerate(self.stop):
            if not 0 < len(text) <= _LONGEST_STOP:
                raise InvalidArgument(
                    f"stop[{place}]",
                    f"has {len(text)} characters; send 1 to {_LONGEST_STOP}",
                )

    def sampling(self) -> Tensors:
        """As the model's signatures take it, for one text."""
        seed = secrets.randbelow(_SEEDS) if self.seed is None else self.seed
        return {
            "temperature": np.asarray([self.temperature], np.float32),
            "top_k": np.asarray([self.top_k], np.int32),
            "top_p": np.asarray([self.top_p or 1.0], np.float32),
            "repetition_penalty": np.asarray([self.repetition_penalty or 1.0], np.float32),
            "seed": np.asarray([seed], np.int32),
        }


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a text took."""

    prompt_tokens: int
    new_tokens: int
    first_token_s: float
    total_s: float


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What came since the last one; the last one says why it is that."""

    text: str
    version: int
    reason: Reason | None = None
    usage: Usage | None = None


class Generator:
    """Writes texts with language models.

    Args:
        run: runs a signature of a model on tensors.
    """

    def __init__(self, run: Run, config: GatewayConfig) -> None:
        self._run = run
        self._config = config

    async def generate(
        self, model: Model, wish: Wish, deadline: Deadline
    ) -> AsyncGenerator[Piece, None]:
        """The pieces of one text.

        Raises:
            InvalidArgument: the model writes no text, or the prompt breaks a limit.
            LimitExceeded: what the model remembers outgrows `max_cache_bytes`.
            ServingError: the model can't be asked.
        """
        started = time.perf_counter()
        text = _Text(model, wish, self._config)
        first_token_s = 0.0
        while text.reason is None:
            signature, inputs = text.next_call()
            outputs = await self._run(model.key, signature, inputs, deadline)
            piece = text.take(outputs)
            first_token_s = first_token_s or time.perf_counter() - started
            if piece and text.reason is None:
                yield Piece(text=piece, version=model.key.version)
        usage = Usage(
            prompt_tokens=text.prompt_tokens,
            new_tokens=text.new_tokens,
            first_token_s=first_token_s,
            total_s=time.perf_counter() - started,
        )
        yield Piece(text=piece, version=model.key.version, reason=text.reason, usage=usage)


class _Text:
    """A text as it grows, and what the model remembers of it.

    Raises:
        InvalidArgument: the model writes no text, or the prompt breaks a limit.
    """

    def __init__(self, model: Model, wish: Wish, config: GatewayConfig) -> None:
        settings = model.manifest.generation
        if settings is None or model.tokenizer is None:
            task = model.manifest.task
            raise InvalidArgument("model", f"{model.key.name} ({task}) writes no text; ask Predict")
        self._key = model.key
        self._ids = _encode(model, model.tokenizer, wish.prompt, settings.positions)
        self.prompt_tokens = len(self._ids)
        room = settings.positions - self.prompt_tokens
        self._room = min(wish.max_new_tokens or room, room, config.max_new_tokens)
        self._end = frozenset(settings.end_ids)
        self._max_cache_bytes = config.max_cache_bytes
        self._sampling = wish.sampling()
        self._cache: NDArray[Any] | None = None
        self._steps = 1  # of the next call; more and more, so that the first words come at once
        self._pieces = Detokenizer(model.tokenizer, wish.stop, self._ids)
        self.reason: Reason | None = None

    @property
    def new_tokens(self) -> int:
        return len(self._ids) - self.prompt_tokens

    def next_call(self) -> tuple[str, Tensors]:
        """The signature that gives the next tokens, and its inputs."""
        ids = np.asarray([self._ids], np.int32)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), **self._sampling}
        if self._cache is None:
            return _PREFILL, inputs
        steps = np.asarray(min(self._steps, self._room - self.new_tokens), np.int32)
        self._steps = min(2 * self._steps, _MOST_STEPS)
        return _DECODE, {**inputs, "cache": self._cache, "steps": steps}

    def take(self, outputs: Tensors) -> str:
        """The text of the new tokens, as far as its characters are whole."""
        tokens, cache = outputs.get("tokens"), outputs.get("cache")
        if tokens is None or cache is None or tokens.ndim != 2 or not tokens.size:
            raise BackendFault(f"{self._key} gives {sorted(outputs)}; it must give tokens, cache")
        self._keep(cache)
        piece = ""
        for token in map(int, tokens[0]):
            self._ids.append(token)
            piece += self._step(token)
            if self.reason:
                break
        return piece

    def _step(self, token: int) -> str:
        if token in self._end:
            self.reason = "end"
            return self._pieces.finish()
        piece = self._pieces.push([token])
        if self._pieces.stopped:
            self.reason = "stop"
        elif self.new_tokens >= self._room:
            self.reason = "length"
            piece += self._pieces.finish()
        return piece

    def _keep(self, cache: NDArray[Any]) -> None:
        """Refuses a text as soon as it shows that it can't be finished."""
        if self._cache is None:
            whole = cache.nbytes // self.prompt_tokens * (self.prompt_tokens + self._room)
            if whole > self._max_cache_bytes:
                raise LimitExceeded(
                    f"max_new_tokens: {self._room} after {self.prompt_tokens} of the prompt would "
                    f"take {whole} bytes of cache; the limit is max_cache_bytes="
                    f"{self._max_cache_bytes}: ask for fewer"
                )
        self._cache = cache


def _encode(model: Model, tokenizer: Tokenizer, prompt: str, positions: int) -> list[int]:
    """The prompt's tokens; all of them, since a model that reads a part answers something else."""
    _check_text(model, prompt)
    ids: list[int] = tokenizer.encode(prompt).ids
    if not ids:
        raise InvalidArgument("prompt", "gives no token; send some text")
    if len(ids) >= positions:
        raise InvalidArgument(
            "prompt", f"has {len(ids)} tokens, the model holds {positions} with the answer; cut it"
        )
    return ids


def _check_text(model: Model, prompt: str) -> None:
    try:
        model.preprocessor.check(prompt)
    except InputError as error:
        raise InvalidArgument("prompt", error.problem) from error


def _check(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also true for NaN
        raise InvalidArgument(field, f"is {value:g}; send {low:g} to {high:g}")
