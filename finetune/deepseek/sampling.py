"""Which token comes next: the most likely one, or one drawn from those that are likely enough.

    logits ─► repetition penalty ─► temperature 0: the highest
                                 ─► / temperature ─► top k ─► top p ─► + noise ─► the highest

The noise of a text's n-th token is a function of its seed and n alone, so a text is the same
however its decoding was cut into pieces and whatever stands beside it in the batch.

`B` is the batch, `C` the vocabulary.

Source: Keskar et al.: CTRL, section 4.1, for the penalty (arXiv 1909.05858); Holtzman et al.: The
Curious Case of Neural Text Degeneration, section 3.1, for top p (arXiv 1904.09751); Maddison et
al.: A* Sampling, section 2, for drawing by noise (arXiv 1411.0030).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from finetune.errors import GenerationError

_LARGEST_SEED = 2**31 - 1
_SMALLEST = np.finfo(np.float32).tiny  # whose logarithm is a number


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How texts are written.

    Args:
        max_new_tokens: after the prompt, for each text.
        temperature: 0 takes the most likely token; below 1 prefers likely ones more than the model.
        top_k: draw from the k most likely tokens only; 0 is no limit.
        top_p: draw from the fewest likely tokens that together have this probability.
        repetition_penalty: logits of tokens that the text has already are divided by it.
        seed: of the first text; each of a batch has its own, counted on from here.
        end_ids: tokens that end a text; None for those of the model.
        stop: strings that end a text, which they are no part of.

    Raises:
        GenerationError: names the setting, its value and what it may be.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    end_ids: tuple[int, ...] | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, is_right, rule in (
            ("max_new_tokens", self.max_new_tokens >= 1, "must be at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "must be 0 or more"),
            ("top_k", self.top_k >= 0, "must be 0 (no limit) or more"),
            ("top_p", 0 < self.top_p <= 1, "must be above 0 and at most 1"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "must be above 0"),
            ("seed", 0 <= self.seed <= _LARGEST_SEED, f"must be 0 to {_LARGEST_SEED}"),
            ("stop", all(self.stop), "must hold no empty string"),
        ):
            if not is_right:
                raise GenerationError(f"{name}: {getattr(self, name)!r} {rule}")


class Sampling(NamedTuple):
    """The settings of each text of a batch, as tensors [B]."""

    temperature: Any  # float32
    top_k: Any  # int32
    top_p: Any  # float32
    repetition_penalty: Any  # float32
    seed: Any  # int32


def of(settings: Settings, texts: int) -> Sampling:
    """The settings as tensors, for so many texts."""
    seeds = (settings.seed + tf.range(texts, dtype=tf.int64)) % (_LARGEST_SEED + 1)
    return Sampling(
        temperature=tf.fill([texts], tf.constant(settings.temperature, tf.float32)),
        top_k=tf.fill([texts], tf.constant(settings.top_k, tf.int32)),
        top_p=tf.fill([texts], tf.constant(settings.top_p, tf.float32)),
        repetition_penalty=tf.fill([texts], tf.constant(settings.repetition_penalty, tf.float32)),
        seed=tf.cast(seeds, tf.int32),
    )


def choose(logits: Any, seen: Any, place: Any, sampling: Sampling) -> Any:
    """The next token of each text: int32 [B].

    Args:
        logits: float32 [B, C].
        seen: int32 [B, S]: the tokens of each text; some may be there more than once.
        place: int32 [B]: how many tokens each text has.
    """
    logits = tf.cond(
        tf.reduce_any(sampling.repetition_penalty != 1),
        lambda: _penalize(logits, seen, sampling.repetition_penalty),
        lambda: logits,
    )
    highest = tf.argmax(logits, axis=-1, output_type=tf.int32)
    return tf.cond(
        tf.reduce_any(sampling.temperature > 0),
        lambda: tf.where(sampling.temperature > 0, _draw(logits, place, sampling), highest),
        lambda: highest,
    )


def _penalize(logits: Any, seen: Any, penalty: Any) -> Any:
    rows = tf.repeat(tf.range(tf.shape(seen)[0])[:, None], tf.shape(seen)[1], axis=1)
    found = tf.gather(logits, seen, batch_dims=1)
    lower = tf.where(found < 0, found * penalty[:, None], found / penalty[:, None])
    return tf.tensor_scatter_nd_update(logits, tf.stack([rows, seen], -1), lower)


def _draw(logits: Any, place: Any, sampling: Sampling) -> Any:
    is_drawn = sampling.temperature > 0
    logits -= tf.reduce_max(logits, axis=-1, keepdims=True)  # then no temperature makes ∞ of it
    logits /= tf.where(is_drawn, sampling.temperature, 1.0)[:, None]
    limits = tf.reduce_any(is_drawn & ((sampling.top_k > 0) | (sampling.top_p < 1)))
    logits = tf.cond(limits, lambda: _likely(logits, sampling), lambda: logits)

    def noise(key: Any) -> Any:
        shape = tf.shape(logits)[1:]
        return tf.random.stateless_uniform(shape, key, minval=_SMALLEST, alg="philox")

    keys = tf.stack([sampling.seed, place], axis=1)
    uniform = tf.map_fn(noise, keys, fn_output_signature=tf.float32)
    gumbel = -tf.math.log(-tf.math.log(uniform))
    return tf.argmax(logits + gumbel, axis=-1, output_type=tf.int32)


def _likely(logits: Any, sampling: Sampling) -> Any:
    """The logits, but −∞ for what top k and top p leave out; equal ones stay together."""
    count = tf.shape(logits)[1]
    ranked = tf.sort(logits, axis=-1, direction="DESCENDING")
    most = tf.where(sampling.top_k > 0, tf.minimum(sampling.top_k, count), count)
    kept = tf.where(tf.range(count)[None] < most[:, None], ranked, -float("inf"))
    before = tf.cumsum(tf.nn.softmax(kept), axis=-1, exclusive=True)  # probability of better ones
    # Where nothing is left out, sums that rounding made 1 leave out nothing either.
    is_kept = (before < sampling.top_p[:, None]) | (sampling.top_p >= 1)[:, None]
    fewest = tf.minimum(tf.reduce_sum(tf.cast(is_kept, tf.int32), axis=-1), most)
    lowest = tf.gather(ranked, fewest - 1, batch_dims=1)
    return tf.where(logits >= lowest[:, None], logits, -float("inf"))
