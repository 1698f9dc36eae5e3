"""The decoder, and its two heads: the next token, or one of some labels.

input_ids [B, T] ─► embedding ─► block × L ─► norm ─► head
attention_mask ─► positions (from each text's first token), and what each token may read
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from finetune.deepseek.attention import Attention
from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.experts import MixtureOfExperts
from finetune.deepseek.feed_forward import FeedForward
from finetune.deepseek.latent_attention import LatentAttention
from finetune.deepseek.layers import RootMeanSquareNorm, projection


class Output(NamedTuple):
    """As transformers' models answer."""

    logits: Any


class Block(tf_keras.layers.Layer):  # type: ignore[misc]
    """Attention and feed-forward, each added to what comes in."""

    def __init__(self, config: DecoderConfig, place: int) -> None:
        super().__init__(name=f"layers_._{place}")
        self.input_layernorm = RootMeanSquareNorm(config.epsilon, "input_layernorm")
        self.self_attn = (
            LatentAttention(config, config.latent, "self_attn")
            if config.latent
            else Attention(config, "self_attn")
        )
        self.post_attention_layernorm = RootMeanSquareNorm(
            config.epsilon, "post_attention_layernorm"
        )
        self.mlp = (
            MixtureOfExperts(config, config.experts, "mlp")
            if config.experts and config.has_experts(place)
            else FeedForward(config, config.feed_forward, "mlp")
        )

    def call(self, x: Any, positions: Any, visible: Any, training: bool = False) -> Any:  # noqa: ARG002 (as every block)
        x = x + self.self_attn(self.input_layernorm(x), positions, visible)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(tf_keras.layers.Layer):  # type: ignore[misc]
    """Tokens → features [B, T, hidden], after the last norm."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(name="model")
        self.embed_tokens = tf_keras.layers.Embedding(
            config.vocabulary,
            config.hidden,
            embeddings_initializer=tf_keras.initializers.RandomNormal(
                stddev=config.initializer_range
            ),
            name="embed_tokens",
        )
        self.layers = [Block(config, place) for place in range(config.blocks)]
        self.norm = RootMeanSquareNorm(config.epsilon, "norm")

    def call(self, input_ids: Any, attention_mask: Any, training: bool = False) -> Any:
        """See the class.

        Args:
            input_ids: int32 [B, T].
            attention_mask: int32 [B, T]: 0 for padding, on either side.
        """
        positions = tf.maximum(tf.cumsum(attention_mask, axis=1) - 1, 0)
        visible = causal(attention_mask)
        x = self.embed_tokens(input_ids)
        for block in self.layers:
            x = block(x, positions, visible, training=training)
        return self.norm(x)


class CausalLM(tf_keras.Model):  # type: ignore[misc]
    """Predicts the next token: logits float32 [B, T, vocabulary]."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(name="causal_lm")
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tied else projection(config, config.vocabulary, "lm_head")

    def call(self, inputs: Any, training: bool = False) -> Output:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        features = self.model(ids, mask, training=training)
        if self.lm_head is not None:
            return Output(tf.cast(self.lm_head(features), tf.float32))
        embedding = tf.cast(self.model.embed_tokens.embeddings, features.dtype)
        return Output(tf.cast(tf.matmul(features, embedding, transpose_b=True), tf.float32))


class SequenceClassifier(tf_keras.Model):  # type: ignore[misc]
    """Reads a whole text and scores the labels at its last token: logits float32 [B, C]."""

    def __init__(self, config: DecoderConfig, labels: int) -> None:
        super().__init__(name="sequence_classifier")
        self.config = config
        self.model = Decoder(config)
        self.score = projection(config, labels, "score")

    def call(self, inputs: Any, training: bool = False) -> Output:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        features = self.model(ids, mask, training=training)
        places = tf.range(tf.shape(mask)[1]) * mask  # of the tokens that are none of padding
        last = tf.gather(features, tf.reduce_max(places, axis=1), batch_dims=1)
        return Output(tf.cast(self.score(last), tf.float32))


def causal(attention_mask: Any) -> Any:
    """Which tokens each may read: those before it and itself, none of padding: bool [B, T, T].

    A token of padding reads itself, so that its softmax has something to be over.
    """
    tokens = tf.shape(attention_mask)[1]
    before = tf.linalg.band_part(tf.ones([tokens, tokens], tf.bool), -1, 0)
    itself = tf.eye(tokens, dtype=tf.bool)
    return (before & tf.cast(attention_mask, tf.bool)[:, None, :]) | itself
