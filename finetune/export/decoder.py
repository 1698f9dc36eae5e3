"""A DeepSeek decoder as graphs for the edge, with the weights of a trained one.

    prefill    ids [1, T] ─► cache [1, T, W]: what is remembered of each token
    decode     token, position, cache [1, P, W] ─► logits [1, C], entry [1, W]: of the token
    classify   ids, mask [1, T] ─► logits [1, C]

They compute what the trained model does, one text at a time. A text begins in the first column, so
no token can read the padding behind it: who reads whom is a constant, and a cache's column is a
position. The cache does not grow in the graph: whoever calls `decode` writes the entry into it.

Devices have no sorting and no products of gathered weights. So every expert answers every token,
all of them as one: what one multiplies, another adds nothing to, since the router's weight is 0 for
the experts that it did not choose.

    tokens [N, h] ─┬─► · all gates ─► silu ─┐
                   ├─► · all ups ───────────┴─► × ─► [N, E, f] × weight [N, E] ─► · all downs ─► sum
                   └─► router ───────────────────────────────────┘

Every product with a weight is of two dimensions, which a converter makes int8 as it is. No op is
used that has no int8 kernel: angles are looked up, and a division is a product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from finetune.deepseek import rotary
from finetune.deepseek.cache import Memory, Parts, pack, unpack
from finetune.deepseek.decoder import Block, CausalLM, Output, SequenceClassifier
from finetune.deepseek.experts import MixtureOfExperts
from finetune.export.untracked import Untracked


def takes(model: Any) -> bool:
    """Whether `Decoder` computes all that a trained model does."""
    return isinstance(model, CausalLM | SequenceClassifier) and not any(model.config.windowed)


class Decoder(tf.Module):  # type: ignore[misc]
    """The part that both heads share.

    Args:
        model: a trained model that `takes` accepts.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(name="decoder")
        self._weights = list(model.variables)
        self._trained = Untracked(model)
        self._embedding = _constant(model.model.embed_tokens.embeddings)
        self._experts = [_experts(block) for block in model.model.layers]

    @property
    def model(self) -> Any:
        """The trained model, whose variables are the weights."""
        return self._trained.value

    def read(self, input_ids: Any) -> tuple[Any, Memory]:
        """Features [1, T, hidden] of a text, and what is remembered of it.

        Args:
            input_ids: int32 [1, T], T fixed.
        """
        tokens = input_ids.shape[1]
        positions = tf.range(tokens)[None]
        readable = tf.constant(np.tril(np.ones([1, tokens, tokens], np.bool_)))
        x = tf.gather(self._embedding, input_ids)
        memory = []
        for place, block in enumerate(self.model.model.layers):
            with tf.name_scope(f"block_{place}"):
                normed = block.input_layernorm(x)
                read, parts = block.self_attn.prefill(normed, positions, readable)
                x = self._feed_forward(place, block, x + read)
            memory.append(parts)
        return self.model.model.norm(x), tuple(memory)

    def _feed_forward(self, place: int, block: Block, x: Any) -> Any:
        normed = block.post_attention_layernorm(x)
        if isinstance(block.mlp, MixtureOfExperts):
            return x + _mixture(block.mlp, self._experts[place], normed)
        return x + block.mlp(normed)


class Classifier(Decoder):
    """Scores the labels at a text's last token."""

    def __call__(self, inputs: dict[str, Any], training: bool = False) -> Output:  # noqa: ARG002 (as every model)
        features, _ = self.read(inputs["input_ids"])
        last = tf.reduce_sum(inputs["attention_mask"], axis=1) - 1
        return Output(self.model.score(tf.gather(features[0], last)))


class Writer(Decoder):
    """Predicts the next token, from what is remembered of those before it."""

    def __init__(self, model: CausalLM) -> None:
        super().__init__(model)
        layers = model.model.layers
        self._prepared = [
            tuple(tuple(map(_constant, part)) for part in block.self_attn.prepared())
            for block in layers
        ]

    def prefill(self, input_ids: Any) -> dict[str, Any]:
        """The cache of a text, float32 [1, T, W]; see the module."""
        return {"cache": pack(self.read(input_ids)[1])}

    def decode(self, token: Any, position: Any, cache: Any) -> dict[str, Any]:
        """Reads one token more; see the module.

        Args:
            token: int32 [1].
            position: int32 [1]: how many columns of the cache it may read.
            cache: float32 [1, P, W].
        """
        columns = [*range(cache.shape[1]), -1]  # the last is the token's own
        readable = tf.constant([columns], tf.int32) < position[:, None]
        config = self.model.config
        memory = unpack(config, cache)
        turned = config.latent.rotary if config.latent else config.head_features
        angles = rotary.looked_up(config.rope, turned, position, cache.shape[1])
        x = tf.gather(self._embedding, token)
        entries: list[Parts] = []
        for place, block in enumerate(self.model.model.layers):
            with tf.name_scope(f"block_{place}"):
                normed = block.input_layernorm(x)
                read, grown = block.self_attn.step(
                    normed, position, readable, memory[place], None, self._prepared[place], angles
                )
                x = self._feed_forward(place, block, x + read)
            entries.append(tuple(part[:, :, -1:] for part in grown))
        return {
            "logits": self._logits(self.model.model.norm(x)),
            "entry": pack(tuple(entries))[:, 0],
        }

    def _logits(self, features: Any) -> Any:
        if self.model.lm_head is not None:
            return self.model.lm_head(features)
        with tf.name_scope("lm_head"):
            return tf.matmul(features, self._embedding, transpose_b=True)


def _experts(block: Block) -> tuple[Any, ...]:
    """The gates, ups and downs of a block's experts: [h, E · f] twice, and [E · f, h]."""
    mlp = block.mlp
    if not isinstance(mlp, MixtureOfExperts):
        return ()
    gate, up, down = (each.kernel for each in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    side_by_side = [
        tf.reshape(tf.transpose(each, [1, 0, 2]), [each.shape[1], -1]) for each in (gate, up)
    ]
    return tuple(map(_constant, (*side_by_side, tf.reshape(down, [-1, down.shape[2]]))))


def _mixture(mlp: MixtureOfExperts, experts: tuple[Any, ...], x: Any) -> Any:
    """As `MixtureOfExperts.call`: [.., h] → the same."""
    gate, up, down = experts
    tokens = tf.reshape(x, [-1, x.shape[-1]])
    with tf.name_scope("router"):
        shares = _shares(mlp.gate, tokens)
    with tf.name_scope("gate_proj"):
        opened = tf.nn.silu(tf.matmul(tokens, gate))
    with tf.name_scope("up_proj"):
        hidden = opened * tf.matmul(tokens, up)
    each = tf.reshape(hidden, [*shares.shape, -1]) * shares[:, :, None]
    with tf.name_scope("down_proj"):
        answers = tf.matmul(tf.reshape(each, hidden.shape), down)
    mixed = tf.reshape(answers, x.shape)
    return mixed if mlp.shared_experts is None else mixed + mlp.shared_experts(x)


def _shares(router: Any, tokens: Any) -> Any:
    """The weight of each expert's answer, 0 of those that are not chosen: float32 [N, E]."""
    scores = router.scores(tokens)
    chosen = tf.reduce_sum(tf.one_hot(router.choose(scores), scores.shape[-1]), axis=1)
    return router.weigh(scores * chosen, lambda x, whole: x * tf.math.rsqrt(whole * whole))


def _constant(value: Any) -> Any:
    """A weight that the converter sees as one, whatever it was made from."""
    return tf.Variable(tf.convert_to_tensor(value), trainable=False, name="constant")
