"""Grouped-query attention: several query heads read the same key and value.

    x ─► q [H heads] ─► turned ─┐
      ─► k [G heads] ─► turned ─┴─► scores, float32, causal ─► softmax ─► · v ─► output
      ─► v [G heads] ───────────────────────────────────────────────────┘      H a multiple of G

Source: Ainslie et al.: GQA, section 2.2 (arXiv 2305.13245); as in Llama and Qwen2.
`B` is the batch, `T` the tokens, `D` a head's features.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek import cache, rotary
from finetune.deepseek.cache import Parts
from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.layers import projection
from finetune.deepseek.long_attention import attend_by_rows, within
from finetune.deepseek.rotary import Angles

_MASKED = -1e9  # large, but a difference of two of them is still a number


class Attention(tf_keras.layers.Layer):  # type: ignore[misc]
    """See the module.

    Args:
        window: how many tokens each may read, its own included; None is no limit.
    """

    def __init__(self, config: DecoderConfig, name: str, window: int | None = None) -> None:
        super().__init__(name=name)
        self._window = window
        self._heads, self._groups = config.heads, config.key_value_heads
        self._features = config.head_features
        self._rope = config.rope
        bias = config.query_bias
        keys = self._groups * self._features
        self.q_proj = projection(config, self._heads * self._features, "q_proj", bias=bias)
        self.k_proj = projection(config, keys, "k_proj", bias=bias)
        self.v_proj = projection(config, keys, "v_proj", bias=bias)
        self.o_proj = projection(config, config.hidden, "o_proj", bias=config.output_bias)

    def call(self, x: Any, positions: Any, visible: Any) -> Any:
        """[B, T, hidden] → the same.

        Args:
            positions: int32 [B, T].
            visible: bool [B, T, T]: which tokens (last axis) each token may read; for long texts,
                whose table would be large, the attention mask itself, int32 [B, T].
        """
        return self._read(*self._project(x, positions), visible)

    def prefill(self, x: Any, positions: Any, visible: Any) -> tuple[Any, Parts]:
        """As `call`, and what is to be remembered of the tokens; see `cache`."""
        q, k, v = self._project(x, positions)
        return self._read(q, k, v, visible), (by_group(k), by_group(v))

    def prepared(self) -> Parts:
        """What every `step` needs of the weights in another form: nothing."""
        return ()

    def step(
        self,
        x: Any,
        position: Any,
        readable: Any,
        memory: Parts,
        column: Any,
        prepared: Parts,
        angles: Angles | None = None,
    ) -> tuple[Any, Parts]:
        """One more token of each text, and the memory with it.

        Args:
            x: [B, hidden].
            position: int32 [B].
            readable: bool [B, S]: which columns it may read, its own included.
            memory: S columns.
            column: int32 []: which one is the token's own.
            prepared: what `prepared` gave.
            angles: of `position`, if they are known already; see `rotary.tables`.
        """
        del prepared
        q, k, v = self._project(x, position[:, None], angles)
        keys = cache.write(memory[0], by_group(k), column)
        values = cache.write(memory[1], by_group(v), column)
        shared = self._heads // self._groups
        q = tf.reshape(q, [-1, self._groups, shared, self._features])
        if self._window is not None:
            readable &= tf.range(tf.shape(readable)[1]) > column - self._window
        read = attend_cached(q, keys, values, readable, 1 / math.sqrt(self._features))
        read = tf.reshape(read, [-1, self._heads * self._features])
        return self.o_proj(read), (keys, values)

    def _project(
        self, x: Any, positions: Any, angles: Angles | None = None
    ) -> tuple[Any, Any, Any]:
        """Queries, keys and values: [B, T, heads, D], the first two turned."""
        angles = angles or rotary.tables(self._rope, self._features, positions)
        q = rotary.turn(split(self.q_proj(x), self._heads), *angles, interleaved=False)
        k = rotary.turn(split(self.k_proj(x), self._groups), *angles, interleaved=False)
        return q, k, split(self.v_proj(x), self._groups)

    def _read(self, q: Any, k: Any, v: Any, visible: Any) -> Any:
        shared = self._heads // self._groups
        k, v = tf.repeat(k, shared, axis=2), tf.repeat(v, shared, axis=2)
        scale = 1 / math.sqrt(self._features)
        return self.o_proj(attend(q, k, v, visible, scale, self._window))


def attend(q: Any, k: Any, v: Any, visible: Any, scale: float, window: int | None = None) -> Any:
    """Softmax of the scaled products, in float32, over what each query may read.

    Args:
        q: [B, T, H, D]; `k` [B, T, H, D]; `v` [B, T, H, E].
        visible: see `Attention.call`.
        window: see `Attention`.

    Returns:
        [B, T, H · E], of the dtype of `v`.
    """

    def plain(q: Any, k: Any, v: Any, visible: Any) -> Any:
        return _attend(q, k, v, visible, scale)

    if visible.shape.rank == 2:
        return attend_by_rows(plain, q, k, v, visible, window)
    return plain(q, k, v, visible if window is None else within(visible, window))


def _attend(q: Any, k: Any, v: Any, visible: Any, scale: float) -> Any:
    scores = tf.einsum("bthd,bshd->bhts", q, k)
    scores = tf.cast(scores, tf.float32) * scale
    scores = tf.where(visible[:, None], scores, _MASKED)
    read = tf.einsum("bhts,bshe->bthe", tf.cast(tf.nn.softmax(scores), v.dtype), v)
    shape = tf.shape(read)
    return tf.reshape(read, [shape[0], shape[1], read.shape[2] * read.shape[3]])


def attend_cached(q: Any, keys: Any, values: Any, readable: Any, scale: float) -> Any:
    """As `attend`, of one token a text, over what is remembered.

    Args:
        q: [B, G, Q, D]: the Q heads of a group read the same keys.
        keys: [B, G, S, D]; `values` [B, G, S, E].
        readable: bool [B, S].

    Returns:
        [B, G, Q, E], of the dtype of `values`.
    """
    scores = tf.cast(tf.matmul(q, keys, transpose_b=True), tf.float32) * scale
    scores = tf.where(readable[:, None, None], scores, _MASKED)
    return tf.matmul(tf.cast(tf.nn.softmax(scores), values.dtype), values)


def split(x: Any, heads: int) -> Any:
    """[B, T, heads · D], or of one token a text [B, heads · D] → [B, T, heads, D]."""
    shape = tf.shape(x)
    tokens = shape[1] if x.shape.rank == 3 else 1
    return tf.reshape(x, [shape[0], tokens, heads, x.shape[-1] // heads])


def by_group(x: Any) -> Any:
    """[B, T, G, D] → [B, G, T, D]."""
    return tf.transpose(x, [0, 2, 1, 3])
