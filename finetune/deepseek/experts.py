"""Mixture of experts: each token goes through a few of many feed-forwards, and through shared ones.

    tokens [N, h] ─► router ─► k experts each, with weights
         │                          │
         └─► sorted by expert ─► [E, most, h] ─► three batched products ─► back ─► Σ weight ·
                                 padded to the fullest expert: none is dropped

For the few tokens of a decoding step, sorting costs more than it saves, and what counts is how many
weights are read:

    N · k ≤ E     only the chosen experts' weights are taken
    N ≤ 16        every expert answers every token: each weight is read once, shapes are static

Source: DeepSeek-V2, section 2.2 (arXiv 2405.04434); DeepSeek-V3, section 2.1.2, equations 12 to 16
(arXiv 2412.19437).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek.config import DecoderConfig, Experts
from finetune.deepseek.feed_forward import FeedForward

_FEW = 16  # tokens


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
        # It balances the experts' load, and no gradient reaches it. All replicas compute the same.
        self.bias = (
            self.add_weight(
                name="bias",
                shape=[sizes.count],
                initializer="zeros",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            if sizes.has_bias
            else None
        )
        super().build(shape)

    def call(self, tokens: Any) -> tuple[Any, Any]:
        """[N, hidden] → the chosen experts, int32 [N, k], and their weights, float32 [N, k]."""
        scores = self.scores(tokens)
        chosen = self.choose(scores)
        return chosen, self.weigh(tf.gather(scores, chosen, batch_dims=1))

    def scores(self, tokens: Any) -> Any:
        """[N, hidden] → how well each expert fits: float32 [N, E]."""
        logits = tf.matmul(tf.cast(tokens, tf.float32), self.kernel)
        return tf.sigmoid(logits) if self._sizes.router == "sigmoid" else tf.nn.softmax(logits)

    def weigh(self, scores: Any, divide: Callable[[Any, Any], Any] = tf.divide) -> Any:
        """Weights of the chosen experts' scores, float32 [N, k]; or of [N, E], the others' 0."""
        sizes = self._sizes
        if sizes.normalizes and sizes.chosen > 1:
            scores = divide(scores, tf.reduce_sum(scores, axis=-1, keepdims=True) + 1e-20)
            if sizes.router == "softmax":  # DeepSeek-V2 scales what it does not normalize
                return scores
        return scores * sizes.scale

    def choose(self, scores: Any) -> Any:
        """The experts of each token: int32 [N, k], from the scores of all, float32 [N, E]."""
        preference = scores if self.bias is None else scores + self.bias
        return tf.math.top_k(self._in_best_groups(preference), self._sizes.chosen).indices

    def _in_best_groups(self, preference: Any) -> Any:
        """[N, E] but for what is outside of the best groups; one is worth its best one or two."""
        sizes = self._sizes
        if sizes.groups in (1, sizes.chosen_groups):
            return preference
        grouped = tf.reshape(preference, [-1, sizes.groups, sizes.count // sizes.groups])
        counted = 2 if sizes.router == "sigmoid" else 1
        worth = tf.reduce_sum(tf.math.top_k(grouped, counted).values, axis=-1)
        _, best = tf.math.top_k(worth, sizes.chosen_groups)
        is_best = tf.reduce_any(tf.one_hot(best, sizes.groups, on_value=True, off_value=False), 1)
        inside = tf.where(is_best[:, :, None], grouped, sizes.outside)
        return tf.reshape(inside, [-1, sizes.count])


class ExpertProjection(tf_keras.layers.Layer):  # type: ignore[misc]
    """A linear layer of each expert.

    Args:
        sizes: of the kernel: experts, features in and out.
    """

    use_bias = False

    def __init__(self, config: DecoderConfig, sizes: Sequence[int], name: str) -> None:
        super().__init__(name=name)
        self._sizes = sizes
        self._initializer = tf_keras.initializers.RandomNormal(stddev=config.initializer_range)

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight("kernel", self._sizes, initializer=self._initializer)
        super().build(shape)

    def call(self, x: Any, expert: Any = None) -> Any:
        """[E, N, in] → [E, N, out]; or [P, N, in] → [P, N, out], each by its expert, int32 [P]."""
        return tf.matmul(x, self.kernel if expert is None else tf.gather(self.kernel, expert))


class MixtureOfExperts(tf_keras.layers.Layer):  # type: ignore[misc]
    """See the module.

    Args:
        sizes: `config.experts`.
    """

    def __init__(self, config: DecoderConfig, sizes: Experts, name: str) -> None:
        super().__init__(name=name)
        self._sizes = sizes
        self.gate = Router(config, sizes, "gate")
        self.shared_experts = (
            FeedForward(config, sizes.shared * sizes.hidden, "shared_experts")
            if sizes.shared
            else None
        )
        inward = (sizes.count, config.hidden, sizes.hidden)
        outward = (sizes.count, sizes.hidden, config.hidden)
        self.gate_proj = ExpertProjection(config, inward, "gate_proj")
        self.up_proj = ExpertProjection(config, inward, "up_proj")
        self.down_proj = ExpertProjection(config, outward, "down_proj")

    def call(self, x: Any) -> Any:
        """[B, T, hidden], or [B, hidden] of a decoding step → the same."""
        tokens = tf.reshape(x, [-1, x.shape[-1]])
        chosen, weights = self.gate(tokens)
        mix = self._mix if x.shape.rank == 3 else self._mix_step
        mixed = tf.reshape(mix(tokens, chosen, tf.cast(weights, x.dtype)), tf.shape(x))
        return mixed if self.shared_experts is None else mixed + self.shared_experts(x)

    def _mix(self, tokens: Any, chosen: Any, weights: Any) -> Any:
        """Σ over each token's experts of weight · expert(token): [N, hidden]."""
        count = tokens.shape[0]
        if count is not None and count * self._sizes.chosen <= self._sizes.count:
            return self._by_choice(tokens, chosen, weights)
        if count is not None and count <= _FEW:
            return self._by_all(tokens, chosen, weights)
        return self._by_seat(tokens, chosen, weights)

    def _mix_step(self, tokens: Any, chosen: Any, weights: Any) -> Any:
        """As `_mix`; where N is known only at run time, it decides then."""
        if tokens.shape[0] is not None:
            return self._mix(tokens, chosen, weights)
        return tf.cond(
            tf.size(chosen) <= self._sizes.count,
            lambda: self._by_choice(tokens, chosen, weights),
            lambda: self._by_seat(tokens, chosen, weights),
        )

    def _by_choice(self, tokens: Any, chosen: Any, weights: Any) -> Any:
        expert = tf.reshape(chosen, [-1])
        x = tf.repeat(tokens, self._sizes.chosen, axis=0)[:, None]
        hidden = tf.nn.silu(self.gate_proj(x, expert)) * self.up_proj(x, expert)
        each = [-1, self._sizes.chosen, tokens.shape[-1]]
        pairs = tf.reshape(self.down_proj(hidden, expert), each)
        return tf.reduce_sum(pairs * weights[:, :, None], axis=1)

    def _by_all(self, tokens: Any, chosen: Any, weights: Any) -> Any:
        count = self._sizes.count
        picked = tf.one_hot(chosen, count, dtype=weights.dtype) * weights[:, :, None]
        answers = self._every_expert(tf.tile(tokens[None], [count, 1, 1]))
        return tf.einsum("nke,enh->nh", picked, answers)

    def _by_seat(self, tokens: Any, chosen: Any, weights: Any) -> Any:
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
        hidden = tf.nn.silu(self.gate_proj(seated)) * self.up_proj(seated)
        return self.down_proj(hidden)
