"""Dropout whose masks depend on the step alone, so that a step can be computed twice.

Keras's dropout draws from a hidden, ever advancing generator. A block that is recomputed in the
backward pass would meet another mask and give wrong gradients without any error, and a training
that is resumed would go on with other masks than one that never stopped.

    step seed ──fold in──► layer 0's seed ─► mask
              ──fold in──► layer 1's seed ─► mask   the same however often it is computed

Drawing is most of what dropout costs, so a mask takes 16 random bits an element, not 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

_LEVELS = 1 << 16  # a rate is rounded to a multiple of 1 / _LEVELS


class DropoutSeed:
    """Makes every layer of a model that drops stateless, with one seed that the trainer sets.

    Those are Keras's dropout, and transformers' own: of elements (DeBERTa's) and of whole rows of
    the batch (stochastic depth, in vision models). A rate is exact to 1/131,072, and what is kept
    is scaled by the rate as it is rounded, so that the mean is kept exactly.

    Args:
        model: whose layers are changed in place.
        seed: of the training.

    Source:
        Srivastava et al.: Dropout (JMLR 2014); Huang et al.: Deep Networks with Stochastic Depth,
        section 3 (arXiv 1603.09382); Salmon et al.: Parallel Random Numbers: As Easy as 1, 2, 3
        (SC 2011), the counter-based generator behind TensorFlow's stateless ops.
    """

    def __init__(self, model: Any, seed: int) -> None:
        self._seed = seed
        self._variable = tf.Variable([seed, 0], dtype=tf.int32, trainable=False)
        found = [(layer, _kind(layer)) for layer in model.submodules]
        dropping = [(layer, kind) for layer, kind in found if kind is not None]
        for index, (layer, kind) in enumerate(dropping):
            layer.call = self._call_of(layer, kind, index)

    def set(self, step: Any) -> None:
        """Chooses the masks of a forward and its backward pass.

        Args:
            step: int32 scalar; another one for every micro-batch of the training, also for
                those that other replicas compute at the same time.
        """
        self._variable.assign(tf.stack([self._seed, tf.cast(step, tf.int32)]))

    def _call_of(self, layer: Any, kind: _Kind, index: int) -> Any:
        def call(inputs: Any, training: bool | None = None) -> Any:
            dropped = round((getattr(layer, kind.rate) or 0.0) * _LEVELS)
            if not training or dropped == 0:
                return tf.identity(inputs)
            # Else a recomputed block's masks, which need no input, would be drawn in the forward
            # pass already, and lie there until the backward pass.
            with tf.control_dependencies([inputs]):
                seed = _fold_in(self._variable.read_value(), index)
            keep = _draw(seed, _mask_shape(inputs, rows=kind.rows)) >= dropped - _LEVELS // 2
            scale = _LEVELS / (_LEVELS - dropped)
            return tf.where(keep, inputs * tf.cast(scale, inputs.dtype), tf.zeros([], inputs.dtype))

        return call


@dataclass(frozen=True)
class _Kind:
    """A layer that drops: the attribute its rate has, and whether it drops whole rows."""

    rate: str
    rows: bool


def _kind(layer: Any) -> _Kind | None:
    if isinstance(layer, tf_keras.layers.Dropout):
        return _Kind("rate", rows=False)
    # transformers has such classes in each model's module, with no common base.
    name = type(layer).__name__
    if name.endswith("StableDropout"):
        return _Kind("drop_prob", rows=False)
    if name.endswith("DropPath"):
        return _Kind("drop_path" if hasattr(layer, "drop_path") else "drop_prob", rows=True)
    return None


def _mask_shape(inputs: Any, *, rows: bool) -> Any:
    shape = tf.shape(inputs)
    if not rows:
        return shape
    return tf.concat([shape[:1], tf.ones([inputs.shape.rank - 1], tf.int32)], axis=0)


def _draw(seed: Any, shape: Any) -> Any:
    """int16 of `shape`, each of its values equally likely."""
    count = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform(
        [(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.reshape(tf.reshape(tf.bitcast(words, tf.int16), [-1])[:count], shape)


def _fold_in(seed: Any, data: Any) -> Any:
    return tf.random.experimental.stateless_fold_in(seed, data, alg="philox")
