"""Multi-head latent attention: keys and values of all heads come from one small latent.

    x ─► [q_a ─► norm ─►] q_b ─► H × (plain | rotary) ─► turned ─────────────────┐
      ─► kv_a ─► latent [R] ─► norm ─► kv_b ─► H × (plain key | value)           ├─► attend
             └─► rotary key [one for all heads] ─► turned ───────────────────────┘

What a decoder must remember of a token is the normed latent and the turned rotary key, R + rotary
numbers, not 2 · H · D. To read them it never makes the keys and values of old tokens: kv_b is
absorbed into the query and into what was read. It then reads as if all heads shared one key.

    q plain [H] ─► · kv_b's key half ─► [H, R] ─┐
    q rotary [H] ───────────────────────────────┴─► scores with (latent | rotary key) ─► softmax
    softmax · latent ─► [H, R] ─► · kv_b's value half ─► [H, value]

Source: DeepSeek-V2, section 2.1 and equations 37 to 47 (arXiv 2405.04434), the absorption after
equation 19.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek import cache, rotary
from finetune.deepseek.attention import attend, attend_cached, by_group, split
from finetune.deepseek.cache import Parts
from finetune.deepseek.config import DecoderConfig, Latent
from finetune.deepseek.layers import RootMeanSquareNorm, projection
from finetune.deepseek.rotary import Angles

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
        angles = self._angles(positions)
        return self._expand(self._queries(x, angles), *self._compress(x, angles), visible)

    def prefill(self, x: Any, positions: Any, visible: Any) -> tuple[Any, Parts]:
        """See `Attention.prefill`."""
        angles = self._angles(positions)
        latent, key = self._compress(x, angles)
        read = self._expand(self._queries(x, angles), latent, key, visible)
        return read, (self._remembered(latent, key),)

    def prepared(self) -> Parts:
        """kv_b's halves: of keys [H, plain, R] and of values [H, R, value]."""
        sizes, kernel = self._sizes, tf.convert_to_tensor(self.kv_b_proj.kernel)
        if hasattr(self.kv_b_proj, "change"):  # LoRA's, which is no part of the kernel
            kernel += self.kv_b_proj.change()
        kernel = tf.cast(kernel, self.compute_dtype)
        heads = tf.reshape(kernel, [sizes.key_value_rank, self._heads, sizes.plain + sizes.value])
        keys, values = tf.split(heads, [sizes.plain, sizes.value], -1)
        return tf.transpose(keys, [1, 2, 0]), tf.transpose(values, [1, 0, 2])

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
        """See `Attention.step`."""
        to_latent, to_value = prepared
        angles = angles or self._angles(position[:, None])
        plain, turned = self._queries(x, angles)
        q = tf.concat([_by_head(plain[:, 0], to_latent)[:, None], turned], -1)
        entry = self._remembered(*self._compress(x, angles))
        remembered = cache.write(memory[0], entry, column)
        read = attend_cached(q, remembered, remembered, readable, self._scale())
        values = _by_head(read[:, 0, :, : self._sizes.key_value_rank], to_value)
        return self.o_proj(tf.reshape(values, [-1, self._heads * self._sizes.value])), (remembered,)

    def _queries(self, x: Any, angles: Any) -> tuple[Any, Any]:
        """The plain part [B, T, H, plain], and the turned one [B, T, H, rotary]."""
        sizes = self._sizes
        if sizes.query_rank is None:
            q = self.q_proj(x)
        else:
            q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        plain, turned = tf.split(split(q, self._heads), [sizes.plain, sizes.rotary], -1)
        return plain, rotary.turn(turned, *angles, interleaved=True)

    def _compress(self, x: Any, angles: Any) -> tuple[Any, Any]:
        """The normed latent [B, T, 1, R], and the turned key [B, T, 1, rotary]."""
        sizes = self._sizes
        compressed = split(self.kv_a_proj_with_mqa(x), 1)
        latent, key = tf.split(compressed, [sizes.key_value_rank, sizes.rotary], -1)
        return self.kv_a_layernorm(latent), rotary.turn(key, *angles, interleaved=True)

    def _expand(self, queries: Any, latent: Any, key: Any, visible: Any) -> Any:
        """Reads the keys and values of all heads."""
        expanded = split(self.kv_b_proj(latent[:, :, 0]), self._heads)
        plain, v = tf.split(expanded, [self._sizes.plain, self._sizes.value], -1)
        k = tf.concat([plain, tf.repeat(key, self._heads, axis=2)], -1)
        return self.o_proj(attend(tf.concat(queries, -1), k, v, visible, self._scale()))

    def _remembered(self, latent: Any, key: Any) -> Any:
        """[B, 1, T, R + rotary]."""
        return by_group(tf.concat([latent, key], -1))

    def _angles(self, positions: Any) -> Any:
        return rotary.tables(self._rope, self._sizes.rotary, positions)

    def _scale(self) -> float:
        features = self._sizes.plain + self._sizes.rotary
        return rotary.softmax_factor(self._rope) / math.sqrt(features)


def _by_head(x: Any, kernels: Any) -> Any:
    """Each head's product with its own kernel.

    Args:
        x: [B, H, D].
        kernels: [H, D, E]; or a tuple of H tensors [D, E].

    Returns:
        [B, H, E].
    """
    if isinstance(kernels, tuple):
        each = [tf.matmul(x[:, head], kernel) for head, kernel in enumerate(kernels)]
        return tf.stack(each, axis=1)
    return tf.transpose(tf.matmul(tf.transpose(x, [1, 0, 2]), kernels), [1, 0, 2])
