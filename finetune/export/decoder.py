"""A DeepSeek decoder as graphs for the edge, with the weights of a trained one.

    prefill    ids [1, T] ─► cache [1, T, W]: what is remembered of each token
    decode     token, position, cache [1, P, W] ─► logits [1, C], entry [1, W]: of the token
    classify   ids, mask [1, T] ─► logits [1, C]

They compute what the trained model does, one text at a time. A text begins in the first column, so
no token can read the padding behind it: who reads whom is a constant, and a cache's column is a
position. The cache does not grow in the graph: whoever calls `decode` writes the entry into it.

Devices have no sorting and no products of gathered weights. So every expert answers every token,
and the router's weights, 0 for the experts that it did not choose, add the answers up. Every
product with a weight is of two dimensions, which a converter makes int8 as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

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
        memory = unpack(self.model.config, cache)
        x = tf.gather(self._embedding, token)
        entries: list[Parts] = []
        for place, block in enumerate(self.model.model.layers):
            with tf.name_scope(f"block_{place}"):
                normed = block.input_layernorm(x)
                read, grown = block.self_attn.step(
                    normed, position, readable, memory[place], None, self._prepared[place]
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
        return tf.matmul(features, self._embedding, transpose_b=True)


def _experts(block: Block) -> list[tuple[Any, Any, Any]]:
    """The three kernels of each expert of a block."""
    mlp = block.mlp
    if not isinstance(mlp, MixtureOfExperts):
        return []
    layers = (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    kernels = zip(*(layer.kernel.numpy() for layer in layers), strict=True)
    return [tuple(map(_constant, each)) for each in kernels]


def _mixture(mlp: MixtureOfExperts, experts: list[tuple[Any, Any, Any]], x: Any) -> Any:
    """As `MixtureOfExperts.call`: [.., hidden] → the same."""
    tokens = tf.reshape(x, [-1, x.shape[-1]])
    chosen, weights = mlp.gate(tokens)
    picked = tf.one_hot(chosen, len(experts)) * weights[:, :, None]
    shares = tf.split(tf.reduce_sum(picked, axis=1), len(experts), axis=1)
    answers = [
        share * tf.matmul(tf.nn.silu(tf.matmul(tokens, gate)) * tf.matmul(tokens, up), down)
        for share, (gate, up, down) in zip(shares, experts, strict=True)
    ]
    mixed = tf.reshape(tf.add_n(answers), x.shape)
    return mixed if mlp.shared_experts is None else mixed + mlp.shared_experts(x)


def _constant(value: Any) -> Any:
    """A weight that the converter sees as one, whatever it was made from."""
    return tf.Variable(tf.convert_to_tensor(value), trainable=False, name="constant")
