"""Mixture of experts: each token goes through a few of many feed-forwards, and through shared ones.

    tokens [N, h] ─► router ─► k experts each, with weights
         │                          │
         └─► sorted by expert ─► [E, most, h] ─► three batched products ─► back ─► Σ weight ·
                                 padded to the fullest expert: none is dropped

Source: DeepSeek-V2, section 2.2 (arXiv 2405.04434); DeepSeek-V3, section 2.1.2, equations 12 to 16
(arXiv 2412.19437).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek.config import DecoderConfig, Experts
from finetune.deepseek.feed_forward import FeedForward


class Router(tf_keras.layers.Layer):  # type: ignore[misc]
    """Chooses experts, in float32 whatever the dtype of the tokens."""

    def __init__(self, config: DecoderConfig, sizes: Experts, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self._sizes = sizes
        self._initializer = tf_keras.initializers.RandomNormal(stddev=config.initializer_range)

    def build(self, shape: Any) -> None:
        sizes = self._sizes
        self.kernel = self.add_weight(
            name="kernel", shape=[shape[-1], sizes.count], initializer=self._initializer
        )
        # It balances the experts' load, and no gradient reaches it.
        self.bias = (
            self.add_weight(name="bias", shape=[sizes.count], initializer="zeros", trainable=False)
            if sizes.has_bias
            else None
        )
        super().build(shape)

    def call(self, tokens: Any) -> tuple[Any, Any]:
        """[N, hidden] → the chosen experts, int32 [N, k], and their weights, float32 [N, k]."""
        sizes = self._sizes
        logits = tf.matmul(tf.cast(tokens, tf.float32), self.kernel)
        scores = tf.sigmoid(logits) if sizes.router == "sigmoid" else tf.nn.softmax(logits)
        preference = scores if self.bias is None else scores + self.bias
        _, chosen = tf.math.top_k(self._in_best_groups(preference), sizes.chosen)
        weights = tf.gather(scores, chosen, batch_dims=1)
        if sizes.normalizes and sizes.chosen > 1:
            weights /= tf.reduce_sum(weights, axis=-1, keepdims=True) + 1e-20
            if sizes.router == "softmax":  # DeepSeek-V2 scales what it does not normalize
                return chosen, weights
        return chosen, weights * sizes.scale

    def _in_best_groups(self, preference: Any) -> Any:
        """[N, E] with −∞ outside of the best groups; a group is worth its best one or two."""
        sizes = self._sizes
        if sizes.groups in (1, sizes.chosen_groups):
            return preference
        grouped = tf.reshape(preference, [-1, sizes.groups, sizes.count // sizes.groups])
        counted = 2 if sizes.router == "sigmoid" else 1
        worth = tf.reduce_sum(tf.math.top_k(grouped, counted).values, axis=-1)
        _, best = tf.math.top_k(worth, sizes.chosen_groups)
        is_best = tf.reduce_any(tf.one_hot(best, sizes.groups, on_value=True, off_value=False), 1)
        inside = tf.where(is_best[:, :, None], grouped, -float("inf"))
        return tf.reshape(inside, [-1, sizes.count])


class MixtureOfExperts(tf_keras.layers.Layer):  # type: ignore[misc]
    """See the module.

    Args:
        sizes: `config.experts`.
    """

    def __init__(self, config: DecoderConfig, sizes: Experts, name: str) -> None:
        super().__init__(name=name)
        self._sizes, self._deviation = sizes, config.initializer_range
        self.gate = Router(config, sizes, "gate")
        self.shared_experts = (
            FeedForward(config, sizes.shared * sizes.hidden, "shared_experts")
            if sizes.shared
            else None
        )

    def build(self, shape: Any) -> None:
        count, hidden, units = self._sizes.count, shape[-1], self._sizes.hidden
        for name, sides in (
            ("gate_proj", [count, hidden, units]),
            ("up_proj", [count, hidden, units]),
            ("down_proj", [count, units, hidden]),
        ):
            initializer = tf_keras.initializers.RandomNormal(stddev=self._deviation)
            setattr(self, name, self.add_weight(name, sides, initializer=initializer))
        super().build(shape)

    def call(self, x: Any) -> Any:
        """[B, T, hidden] → the same."""
        tokens = tf.reshape(x, [-1, x.shape[-1]])
        chosen, weights = self.gate(tokens)
        mixed = tf.reshape(self._mix(tokens, chosen, tf.cast(weights, x.dtype)), tf.shape(x))
        return mixed if self.shared_experts is None else mixed + self.shared_experts(x)

    def _mix(self, tokens: Any, chosen: Any, weights: Any) -> Any:
        """Σ over each token's experts of weight · expert(token): [N, hidden]."""
        count, each = self._sizes.count, self._sizes.chosen
        expert = tf.reshape(chosen, [-1])  # of each of the N · k pairs
        order = tf.argsort(expert, stable=True)
        load = tf.math.bincount(expert, minlength=count, maxlength=count)
        first = tf.cumsum(load, exclusive=True)
        ranked = tf.gather(expert, order)
        seat = tf.range(tf.size(expert)) - tf.gather(first, ranked)  # within its expert
        most = tf.reduce_max(load)
        places = tf.stack([ranked, seat], 1)
        seated = tf.scatter_nd(
            places, tf.gather(tokens, order // each), [count, most, tokens.shape[-1]]
        )
        answered = tf.gather_nd(self._every_expert(seated), places)
        pairs = tf.gather(answered, tf.math.invert_permutation(order))
        pairs = tf.reshape(pairs, [-1, each, tokens.shape[-1]])
        return tf.reduce_sum(pairs * weights[:, :, None], axis=1)

    def _every_expert(self, seated: Any) -> Any:
        """[E, most, hidden] → the same, each expert on its own seats."""
        gate, up, down = (
            tf.cast(kernel, seated.dtype)
            for kernel in (self.gate_proj, self.up_proj, self.down_proj)
        )
        return tf.matmul(tf.nn.silu(tf.matmul(seated, gate)) * tf.matmul(seated, up), down)
