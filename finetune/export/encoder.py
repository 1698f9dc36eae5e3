"""BERT's architecture as a graph for the edge, with the weights of a trained classifier.

    ids [1, T] ─► word + place ─► norm ─┬─► layer ─► … ─► last layer, first token only ─► head
    mask [1, T] ─► 0 or −10⁴ ───────────┘

It computes what transformers' own graph does, in fewer and plainer operations: one example of a
fixed length, so every product with a weight is a FULLY_CONNECTED over [T, features]; in the last
layer, only what the head reads. Constants are folded where that changes nothing:

    1/√d goes into the query;  a key's bias adds the same to all of a row's scores, which softmax
    does not see;  a value's bias passes the softmax as it is, so it goes into the output's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from finetune.head import ClassificationHead

Array = NDArray[np.float32]

_MASKED = -1e4  # added to the scores of padding, as transformers does
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": tf.nn.gelu,
    "gelu_new": functools.partial(tf.nn.gelu, approximate=True),
    "relu": tf.nn.relu,
}


class Output(NamedTuple):
    """As transformers' models answer."""

    logits: Any  # [1, C]


def takes(model: Any) -> bool:
    """Whether `Encoder` computes all that a trained model does."""
    if type(model).__name__ != "TFBertForSequenceClassification":
        return False
    config = model.config
    return (
        isinstance(model.classifier, ClassificationHead)
        and config.hidden_act in _ACTIVATIONS
        and config.position_embedding_type == "absolute"
        and not config.is_decoder
    )


class Encoder(tf.Module):  # type: ignore[misc]
    """The graph.

    Args:
        model: a trained model that `takes` accepts.
        for_int8: compute a variance as a product, which costs a float model time and is what keeps
            an int8 one accurate.

    Call:
        {"input_ids", "attention_mask"}, int32 [1, T], T fixed → logits, float32 [1, C].

    Source:
        Devlin et al.: BERT, section 3 (arXiv 1810.04805).
    """

    def __init__(self, model: Any, *, for_int8: bool = False) -> None:
        super().__init__(name="encoder")
        self._for_int8 = for_int8
        config, bert = model.config, model.bert
        self._heads = config.num_attention_heads
        self._epsilon = config.layer_norm_eps
        self._activation = _ACTIVATIONS[config.hidden_act]
        self._head_activation = model.classifier.dense.activation
        embeddings = bert.embeddings
        places = embeddings.position_embeddings + embeddings.token_type_embeddings[0]
        self.words = _variable(embeddings.weight, "words")
        self.places = _variable(places, "places")
        self.norm = _norm(embeddings.LayerNorm)
        self.layers = [_layer(layer, config) for layer in bert.encoder.layer]
        self.pooler = _dense(bert.pooler.dense)
        self.head = _dense(model.classifier.dense)
        self.projection = _dense(model.classifier.projection)

    def __call__(self, inputs: dict[str, Any], training: bool = False) -> Output:  # noqa: ARG002 (as every model)
        tokens = inputs["input_ids"].shape[1]
        with tf.name_scope("embeddings"):
            words = tf.gather(self.words, tf.reshape(inputs["input_ids"], [tokens]))
            x = self._normalize(self._seen(words + self.places[:tokens]), self.norm)
            # Chosen by a bool: an int8 graph has no float to multiply.
            mask = tf.where(inputs["attention_mask"] > 0, 0.0, _MASKED)
        for place, layer in enumerate(self.layers):
            last = place == len(self.layers) - 1
            with tf.name_scope(f"layer_{place}"):
                x = self._block(layer, x[:1] if last else x, x, mask)
        with tf.name_scope("head"):
            pooled = self._seen(tf.tanh(self._product(x, self.pooler)))
            hidden = self._seen(self._head_activation(self._product(pooled, self.head)))
            return Output(self._product(hidden, self.projection))

    def _block(self, layer: dict[str, Any], read: Any, x: Any, mask: Any) -> Any:
        """Features of the tokens `read` [Q, features], which attend to all of `x` [T, features]."""
        with tf.name_scope("attention"):
            attended = self._attend(layer, read, x, mask)
        x = self._normalize(self._seen(attended + read), layer["attention_norm"])
        with tf.name_scope("feed_forward"):
            inner = self._activation(self._product(x, layer["inner"], may_be_cut=True))
            outer = self._product(self._seen(inner), layer["outer"], may_be_cut=True)
        return self._normalize(self._seen(outer + x), layer["norm"])

    def _attend(self, layer: dict[str, Any], read: Any, x: Any, mask: Any) -> Any:
        query = self._split(self._product(read, layer["query"]))
        key, value = (
            self._split(self._product(x, layer["key"])),
            self._split(self._product(x, layer["value"])),
        )
        scores = self._seen(tf.matmul(query, key, transpose_b=True))
        weights = self._seen(tf.nn.softmax(scores + mask))
        context = tf.transpose(self._seen(tf.matmul(weights, value)), [1, 0, 2])
        return self._product(tf.reshape(context, [*read.shape]), layer["output"])

    def _product(self, x: Any, dense: dict[str, Any], *, may_be_cut: bool = False) -> Any:
        product = tf.matmul(x, self._kernel(dense["kernel"])) + dense["bias"]
        return self._seen(product, may_be_cut=may_be_cut)

    def _kernel(self, kernel: Any) -> Any:
        """A matrix of weights, as it is multiplied."""
        return kernel

    def _seen(self, x: Any, *, may_be_cut: bool = False) -> Any:  # noqa: ARG002 (for who overrides it)
        """A tensor, as what comes after it sees it.

        Args:
            may_be_cut: it is one whose outliers carry no information; see `clipping`.
        """
        return x

    def _split(self, x: Any) -> Any:
        """[T, features] → [heads, T, features of a head]."""
        return tf.transpose(tf.reshape(x, [x.shape[0], self._heads, -1]), [1, 0, 2])

    def _normalize(self, x: Any, norm: dict[str, Any]) -> Any:
        with tf.name_scope("norm"):
            centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
            if self._for_int8:
                return self._seen(self._divide_by_length(centred, norm))
            variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
            scaled = centred * tf.math.rsqrt(variance + self._epsilon)
            return scaled * norm["gamma"] + norm["beta"]

    def _divide_by_length(self, centred: Any, norm: dict[str, Any]) -> Any:
        """A product sums in int32 the squares that int8 would round to 0 beside an outlier's."""
        rows, features = centred.shape
        row, column = (tf.reshape(centred, [rows, *each]) for each in ((1, -1), (-1, 1)))
        length = tf.reshape(tf.matmul(row, column), [rows, 1])
        scaled = centred * tf.math.rsqrt(length + features * self._epsilon)
        return scaled * (norm["gamma"] * math.sqrt(features)) + norm["beta"]


def _layer(layer: Any, config: Any) -> dict[str, Any]:
    attention = layer.attention.self_attention
    query, key, value = (
        _arrays(each) for each in (attention.query, attention.key, attention.value)
    )
    scale = 1 / math.sqrt(config.hidden_size // config.num_attention_heads)
    output = _arrays(layer.attention.dense_output.dense)
    bias = output[1] + value[1] @ output[0]
    none = np.zeros_like(key[1])
    return {
        "query": _pair(query[0] * scale, query[1] * scale),
        "key": _pair(key[0], none),
        "value": _pair(value[0], none),
        "output": _pair(output[0], bias),
        "attention_norm": _norm(layer.attention.dense_output.LayerNorm),
        "inner": _dense(layer.intermediate.dense),
        "outer": _dense(layer.bert_output.dense),
        "norm": _norm(layer.bert_output.LayerNorm),
    }


def _dense(layer: Any) -> dict[str, Any]:
    return _pair(*_arrays(layer))


def _norm(layer: Any) -> dict[str, Any]:
    return {"gamma": _variable(layer.gamma, "gamma"), "beta": _variable(layer.beta, "beta")}


def _arrays(layer: Any) -> tuple[Array, Array]:
    return layer.kernel.numpy(), layer.bias.numpy()


def _pair(kernel: Array, bias: Array) -> dict[str, Any]:
    return {"kernel": _variable(kernel, "kernel"), "bias": _variable(bias, "bias")}


def _variable(value: Any, name: str) -> Any:
    return tf.Variable(tf.convert_to_tensor(value), name=name, dtype=tf.float32)
