"""Has a model write texts, from Python.

    prompts ─► padded on the left to a bucket ─► prefill ─► room for a bucket of tokens
                                                               │
                 pieces of text ◄── tokens ◄── advance ◄───────┴─► … until all have ended

Each program is compiled once for a size of the batch and a bucket, whatever the settings are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bundle.detokenize import Detokenizer
from finetune.deepseek import decoding, sampling
from finetune.deepseek.decoding import Texts
from finetune.deepseek.sampling import Sampling, Settings
from finetune.errors import GenerationError, ModelError

StopReason = Literal["stop", "length"]  # an end token or stop string; no more tokens are wanted
Prompt = str | Sequence[int]

_SMALLEST_BUCKET = 16  # tokens
_LOOK = 16  # tokens between two looks for stop strings


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What came to a text at once."""

    tokens: tuple[int, ...]
    text: str  # "" without a tokenizer
    stop_reason: StopReason | None  # of the last piece


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole text, without its prompt."""

    tokens: tuple[int, ...]  # with the end token, if one came
    text: str
    stop_reason: StopReason


class Generator:
    """See the module.

    Args:
        model: a built `CausalLM`; its texts are computed in its dtype.
        tokenizer_json: a Hugging Face `tokenizers` file; without one prompts are token ids, and
            there are no stop strings.
        end_ids: tokens that end a text, where the settings name none.

    Raises:
        ModelError: the tokenizer can't be read.
    """

    def __init__(
        self, model: Any, *, tokenizer_json: bytes | None = None, end_ids: Sequence[int] = ()
    ) -> None:
        self._model, self._end_ids = model, tuple(end_ids)
        self._tokenizer = _tokenizer(tokenizer_json) if tokenizer_json else None
        self._start = tf.function(self._traced_start)
        self._advance = tf.function(self._traced_advance)
        self.compilations = 0  # of programs, since it was made

    def generate(self, prompts: Sequence[Prompt], settings: Settings | None = None) -> list[Answer]:
        """Writes a text after each prompt.

        Raises:
            GenerationError: a prompt is empty, too long, or has a token that the model has not; or
                there is no tokenizer, and something needs one.
        """
        if not prompts:
            return []
        settings = settings or Settings()
        ids = [self._encoded(prompt, place) for place, prompt in enumerate(prompts)]
        texts = [self._text(each, settings) for each in ids]
        answers = [""] * len(texts)
        for tokens in self._written(ids, settings, _LOOK if settings.stop else None):
            for place, text in enumerate(texts):
                answers[place] += text.take(tokens[place])
            if all(text.stop_reason for text in texts):
                break
        return [
            Answer(tokens=tuple(text.tokens), text=answer, stop_reason=text.stop_reason or "length")
            for text, answer in zip(texts, answers, strict=True)
        ]

    def stream(
        self, prompt: Prompt, settings: Settings | None = None, *, every: int = 1
    ) -> Iterator[Piece]:
        """Writes one text, and tells of every so many tokens; see `generate`."""
        settings = settings or Settings()
        ids = self._encoded(prompt, 0)
        text = self._text(ids, settings)
        for tokens in self._written([ids], settings, every):
            known = len(text.tokens)
            piece = text.take(tokens[0])
            new = tuple(text.tokens[known:])
            yield Piece(tokens=new, text=piece, stop_reason=text.stop_reason)
            if text.stop_reason:
                return

    def _encoded(self, prompt: Prompt, place: int) -> list[int]:
        if isinstance(prompt, str):
            if self._tokenizer is None:
                raise GenerationError(
                    f"prompt {place}: is text, but there is no tokenizer; give token ids"
                )
            ids = list(self._tokenizer.encode(prompt).ids)
        else:
            ids = list(prompt)
        most = self._model.config.positions - 1
        if not 1 <= len(ids) <= most:
            raise GenerationError(
                f"prompt {place}: has {len(ids)} tokens; give 1 to {most}, since the model "
                f"reads {most + 1} with the answer"
            )
        most = self._model.config.vocabulary - 1
        if min(ids) < 0 or max(ids) > most:
            raise GenerationError(
                f"prompt {place}: has tokens {min(ids)} to {max(ids)}; the model has 0 to {most}"
            )
        return ids

    def _text(self, prompt: list[int], settings: Settings) -> _Text:
        if settings.stop and self._tokenizer is None:
            raise GenerationError(
                f"stop: {list(settings.stop)} needs a tokenizer; leave it out, or use end_ids"
            )
        pieces = Detokenizer(self._tokenizer, settings.stop) if self._tokenizer else None
        room = self._model.config.positions - len(prompt)
        ends = self._end_ids if settings.end_ids is None else settings.end_ids
        return _Text(pieces, ends, min(settings.max_new_tokens, room))

    def _written(
        self, prompts: Sequence[list[int]], settings: Settings, every: int | None
    ) -> Iterator[NDArray[np.int32]]:
        """The new tokens, int32 [B, …], `every` so many; by default all at once."""
        ends = self._end_ids if settings.end_ids is None else settings.end_ids
        end_ids = tf.constant(ends, tf.int32)
        drawn = sampling.of(settings, len(prompts))
        shortest = min(len(prompt) for prompt in prompts)
        left = min(settings.max_new_tokens, self._model.config.positions - shortest)
        texts = self._begun(prompts, drawn, left)
        known = int(texts.last)
        first = True
        while left:
            steps = min(every or left, left)
            texts = self._advance(texts, tf.constant(steps - first), drawn, end_ids)
            last = known + steps
            yield texts.ids[:, known:last].numpy()
            known, left, first = last, left - steps, False

    def _begun(self, prompts: Sequence[list[int]], drawn: Sampling, tokens: int) -> Texts:
        """The prompts and the first new token of each, with room for so many in all."""
        longest = _bucket(max(len(prompt) for prompt in prompts))
        ids = np.zeros((len(prompts), longest), np.int32)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = prompt
            mask[row, longest - len(prompt) :] = 1
        first, memory = self._start(tf.constant(ids), tf.constant(mask), drawn)
        ids = tf.concat([ids, first[:, None]], axis=1)
        mask = tf.pad(mask, [[0, 0], [0, 1]], constant_values=1)
        return decoding.room(ids, mask, memory, _bucket(longest + tokens) - longest - 1)

    def _traced_start(self, ids: Any, mask: Any, drawn: Sampling) -> Any:
        self.compilations += 1
        return decoding.start(self._model, ids, mask, drawn)

    def _traced_advance(self, texts: Texts, steps: Any, drawn: Sampling, end_ids: Any) -> Texts:
        self.compilations += 1
        return decoding.advance(self._model, texts, steps, drawn, end_ids)


class _Text:
    """A text that grows until it has ended; then it has a stop reason."""

    def __init__(self, pieces: Detokenizer | None, end_ids: Sequence[int], limit: int) -> None:
        self.tokens: list[int] = []
        self.stop_reason: StopReason | None = None
        self._pieces, self._end_ids, self._limit = pieces, end_ids, limit

    def take(self, tokens: Sequence[int]) -> str:
        """What the next tokens add to the text; nothing once it has ended."""
        piece = ""
        for token in tokens:
            if self.stop_reason:
                break
            piece += self._take(int(token))
        return piece

    def _take(self, token: int) -> str:
        self.tokens.append(token)
        is_end = token in self._end_ids
        piece = "" if is_end or self._pieces is None else self._pieces.push([token])
        if is_end or (self._pieces is not None and self._pieces.stopped):
            self.stop_reason = "stop"
        elif len(self.tokens) == self._limit:
            self.stop_reason = "length"
        if self.stop_reason and self._pieces is not None:
            piece += self._pieces.finish()
        return piece


def _tokenizer(content: bytes) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"tokenizer_json: not a tokenizers file: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _bucket(tokens: int) -> int:
    """The room for so many tokens: 16, 24, 32, 48, 64, 96 …"""
    power = 1 << (tokens - 1).bit_length()
    between = power * 3 // 4
    return max(_SMALLEST_BUCKET, between if tokens <= between else power)
