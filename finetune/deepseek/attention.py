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

from finetune.deepseek import rotary
from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.layers import projection

_MASKED = -1e9  # large, but a difference of two of them is still a number


class Attention(tf_keras.layers.Layer):  # type: ignore[misc]
    """See the module."""

    def __init__(self, config: DecoderConfig, name: str) -> None:
        super().__init__(name=name)
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
            visible: bool [B, T, T]: which tokens (last axis) each token may read.
        """
        cosine, sine = rotary.tables(self._rope, self._features, positions)
        q = rotary.turn(self._split(self.q_proj(x)), cosine, sine, interleaved=False)
        k = rotary.turn(self._split(self.k_proj(x)), cosine, sine, interleaved=False)
        v = self._split(self.v_proj(x))
        shared = self._heads // self._groups
        k, v = tf.repeat(k, shared, axis=2), tf.repeat(v, shared, axis=2)
        return self.o_proj(attend(q, k, v, visible, 1 / math.sqrt(self._features)))

    def _split(self, x: Any) -> Any:
        shape = tf.shape(x)
        heads = x.shape[-1] // self._features
        return tf.reshape(x, [shape[0], shape[1], heads, self._features])


def attend(q: Any, k: Any, v: Any, visible: Any, scale: float) -> Any:
    """Softmax of the scaled products, in float32, over what each query may read.

    Args:
        q: [B, T, H, D]; `k` [B, S, H, D]; `v` [B, S, H, E].
        visible: bool [B, T, S].

    Returns:
        [B, T, H · E], of the dtype of `v`.
    """
    scores = tf.einsum("bthd,bshd->bhts", q, k)
    scores = tf.cast(scores, tf.float32) * scale
    scores = tf.where(visible[:, None], scores, _MASKED)
    read = tf.einsum("bhts,bshe->bthe", tf.cast(tf.nn.softmax(scores), v.dtype), v)
    shape = tf.shape(read)
    return tf.reshape(read, [shape[0], shape[1], read.shape[2] * read.shape[3]])
