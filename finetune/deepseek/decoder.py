"""The decoder, and its two heads: the next token, or one of some labels.

input_ids [B, T] ─► embedding ─► block × L ─► norm ─► head
attention_mask ─► positions (from each text's first token), and what each token may read

To write a text, `prefill` reads all of it once and remembers (see `cache`), then each `step` reads
one token more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from finetune.deepseek import long_attention, visible
from finetune.deepseek.attention import Attention
from finetune.deepseek.cache import Memory, Parts
from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.experts import MixtureOfExperts
from finetune.deepseek.feed_forward import FeedForward
from finetune.deepseek.latent_attention import LatentAttention
from finetune.deepseek.layers import RootMeanSquareNorm, projection


class Output(NamedTuple):
    """As transformers' models answer."""

    logits: Any


class Prepared(NamedTuple):
    """What every step of a decoding needs of the weights, read or made once."""

    embedding: Any  # [vocabulary, hidden]
    blocks: tuple[Parts, ...]  # see `Attention.prepared`


class Block(tf_keras.layers.Layer):  # type: ignore[misc]
    """Attention and feed-forward, each added to what comes in."""

    def __init__(self, config: DecoderConfig, place: int) -> None:
        super().__init__(name=f"layers_._{place}")
        self.input_layernorm = RootMeanSquareNorm(config.epsilon, "input_layernorm")
        self.self_attn = (
            LatentAttention(config, config.latent, "self_attn")
            if config.latent
            else Attention(config, "self_attn", config.window_of(place))
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
        return self._feed_forward(x)

    def prefill(self, x: Any, positions: Any, visible: Any) -> tuple[Any, Parts]:
        """As `call`, and what is to be remembered of the tokens."""
        read, parts = self.self_attn.prefill(self.input_layernorm(x), positions, visible)
        return self._feed_forward(x + read), parts

    def step(
        self, x: Any, position: Any, readable: Any, memory: Parts, column: Any, prepared: Parts
    ) -> tuple[Any, Parts]:
        """One more token of each text; see `Attention.step`."""
        read, parts = self.self_attn.step(
            self.input_layernorm(x), position, readable, memory, column, prepared
        )
        return self._feed_forward(x + read), parts

    def _feed_forward(self, x: Any) -> Any:
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
            attention_mask: int32 [B, T]: 0 for padding, on either side; see `visible`.
        """
        positions = visible.positions(attention_mask, long_attention.LONGEST)
        readable = _readable(attention_mask, may_be_long=False)
        x = self.embed_tokens(input_ids)
        for block in self.layers:
            x = block(x, positions, readable, training=training)
        return self.norm(x)

    def prefill(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Memory]:
        """As `call`, of the last token alone [B, hidden], and the memory of all."""
        positions = tf.maximum(tf.cumsum(attention_mask, axis=1) - 1, 0)  # none are packed
        readable = _readable(attention_mask, may_be_long=True)
        x = tf.cast(tf.gather(self._embedding(), input_ids), self.compute_dtype)
        memory = []
        for block in self.layers:
            x, parts = block.prefill(x, positions, readable)
            memory.append(parts)
        return self.norm(x[:, -1]), tuple(memory)

    def prepared(self) -> Prepared:
        """What every `step` needs; make it once before a loop."""
        return Prepared(
            embedding=tf.cast(self._embedding(), self.compute_dtype),
            blocks=tuple(block.self_attn.prepared() for block in self.layers),
        )

    def step(
        self,
        token: Any,
        position: Any,
        readable: Any,
        memory: Memory,
        column: Any,
        prepared: Prepared,
    ) -> tuple[Any, Memory]:
        """Reads one more token of each text, int32 [B]; see `Attention.step`."""
        x, grown = tf.gather(prepared.embedding, token), []
        for block, parts, weights in zip(self.layers, memory, prepared.blocks, strict=True):
            x, parts = block.step(x, position, readable, parts, column, weights)  # noqa: PLW2901
            grown.append(parts)
        return self.norm(x), tuple(grown)

    def _embedding(self) -> Any:
        # A variable that rows were gathered from, as the layer does, is copied by every later read.
        return tf.convert_to_tensor(self.embed_tokens.embeddings)


class CausalLM(tf_keras.Model):  # type: ignore[misc]
    """Predicts the next token: logits float32 [B, T, vocabulary]."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(name="causal_lm")
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tied else projection(config, config.vocabulary, "lm_head")

    def call(self, inputs: Any, training: bool = False) -> Output:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        return Output(self._logits(self.model(ids, mask, training=training)))

    def prefill(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Memory]:
        """Reads texts that all end in the last column.

        Returns:
            The logits of what follows, float32 [B, vocabulary], and the memory.
        """
        features, memory = self.model.prefill(input_ids, attention_mask)
        return self._logits(features), memory

    def prepared(self) -> Prepared:
        """See `Decoder.prepared`."""
        return self.model.prepared()

    def step(
        self,
        token: Any,
        position: Any,
        readable: Any,
        memory: Memory,
        column: Any,
        prepared: Prepared,
    ) -> tuple[Any, Memory]:
        """Reads one more token of each text; returns as `prefill`. See `Attention.step`."""
        features, memory = self.model.step(token, position, readable, memory, column, prepared)
        return self._logits(features, prepared.embedding), memory

    def _logits(self, features: Any, embedding: Any = None) -> Any:
        """[.., hidden] → float32 [.., vocabulary]."""
        if self.lm_head is not None:
            return tf.cast(self.lm_head(features), tf.float32)
        if embedding is None:
            embedding = tf.cast(self.model.embed_tokens.embeddings, features.dtype)
        return tf.cast(tf.matmul(features, embedding, transpose_b=True), tf.float32)


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


def _readable(attention_mask: Any, *, may_be_long: bool) -> Any:
    """What `Attention.call` wants to know of who may read whom.

    Args:
        may_be_long: where the number of tokens is known only at run time.
    """
    tokens = attention_mask.shape[1]
    is_long = may_be_long if tokens is None else tokens > long_attention.LONGEST
    return attention_mask if is_long else visible.causal(attention_mask)
