"""Multi-head latent attention: keys and values of all heads come from one small latent.

    x ─► [q_a ─► norm ─►] q_b ─► H × (plain | rotary) ─► turned ─────────────────┐
      ─► kv_a ─► latent [R] ─► norm ─► kv_b ─► H × (plain key | value)           ├─► attend
             └─► rotary key [one for all heads] ─► turned ───────────────────────┘

What a decoder must remember of a token is R + rotary numbers, not 2 · H · D.

Source: DeepSeek-V2, section 2.1 and equations 37 to 47 (arXiv 2405.04434).
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek import rotary
from finetune.deepseek.attention import attend
from finetune.deepseek.config import DecoderConfig, Latent
from finetune.deepseek.layers import RootMeanSquareNorm, projection

_EPSILON = 1e-6  # of the norms of the latents, whatever the checkpoint says of the others


class LatentAttention(tf_keras.layers.Layer):  # type: ignore[misc]
    """See the module.

    Args:
        sizes: `config.latent`.
    """

    def __init__(self, config: DecoderConfig, sizes: Latent, name: str) -> None:
        super().__init__(name=name)
        self._sizes, self._heads, self._rope = sizes, config.heads, config.rope
        queries = config.heads * (sizes.plain + sizes.rotary)
        bias = config.query_bias
        if sizes.query_rank is None:
            self.q_proj = projection(config, queries, "q_proj")
        else:
            self.q_a_proj = projection(config, sizes.query_rank, "q_a_proj", bias=bias)
            self.q_a_layernorm = RootMeanSquareNorm(_EPSILON, "q_a_layernorm")
            self.q_b_proj = projection(config, queries, "q_b_proj")
        remembered = sizes.key_value_rank + sizes.rotary
        self.kv_a_proj_with_mqa = projection(config, remembered, "kv_a_proj_with_mqa", bias=bias)
        self.kv_a_layernorm = RootMeanSquareNorm(_EPSILON, "kv_a_layernorm")
        expanded = config.heads * (sizes.plain + sizes.value)
        self.kv_b_proj = projection(config, expanded, "kv_b_proj")
        self.o_proj = projection(config, config.hidden, "o_proj", bias=config.output_bias)

    def call(self, x: Any, positions: Any, visible: Any) -> Any:
        """[B, T, hidden] → the same; see `Attention.call`."""
        sizes = self._sizes
        cosine, sine = rotary.tables(self._rope, sizes.rotary, positions)
        q_plain, q_rotary = tf.split(self._queries(x), [sizes.plain, sizes.rotary], -1)
        q_rotary = rotary.turn(q_rotary, cosine, sine, interleaved=True)
        compressed = self.kv_a_proj_with_mqa(x)
        latent, k_rotary = tf.split(compressed, [sizes.key_value_rank, sizes.rotary], -1)
        k_rotary = rotary.turn(k_rotary[:, :, None], cosine, sine, interleaved=True)
        expanded = self._split(self.kv_b_proj(self.kv_a_layernorm(latent)))
        k_plain, v = tf.split(expanded, [sizes.plain, sizes.value], -1)
        k_rotary = tf.repeat(k_rotary, self._heads, axis=2)
        q = tf.concat([q_plain, q_rotary], -1)
        k = tf.concat([k_plain, k_rotary], -1)
        return self.o_proj(attend(q, k, v, visible, self._scale()))

    def _queries(self, x: Any) -> Any:
        if self._sizes.query_rank is None:
            return self._split(self.q_proj(x))
        return self._split(self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))))

    def _split(self, x: Any) -> Any:
        shape = tf.shape(x)
        return tf.reshape(x, [shape[0], shape[1], self._heads, x.shape[-1] // self._heads])

    def _scale(self) -> float:
        features = self._sizes.plain + self._sizes.rotary
        return rotary.softmax_factor(self._rope) / math.sqrt(features)
