"""Dropout whose masks depend on the step alone, so that a step can be computed twice.

Keras's dropout draws from a hidden, ever advancing generator. A block that is recomputed in the
backward pass would meet another mask and give wrong gradients without any error, and a training
that is resumed would go on with other masks than one that never stopped.

    step seed ──fold in──► layer 0's seed ─► mask
              ──fold in──► layer 1's seed ─► mask   the same however often it is computed
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras


class DropoutSeed:
    """Makes every dropout layer of a model stateless, with one seed that the trainer sets.

    Args:
        model: whose `tf_keras.layers.Dropout` layers are changed in place.
        seed: of the training.

    Source:
        Salmon et al.: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), the counter-based
        generator behind TensorFlow's stateless ops.
    """

    def __init__(self, model: Any, seed: int) -> None:
        self._seed = seed
        self._variable = tf.Variable([seed, 0], dtype=tf.int32, trainable=False)
        layers = [each for each in model.submodules if isinstance(each, tf_keras.layers.Dropout)]
        for index, layer in enumerate(layers):
            layer.call = self._call_of(layer, index)

    def set(self, step: Any) -> None:
        """Chooses the masks of a forward and its backward pass.

        Args:
            step: int32 scalar; another one for every micro-batch of the training, also for
                those that other replicas compute at the same time.
        """
        self._variable.assign(tf.stack([self._seed, tf.cast(step, tf.int32)]))

    def _call_of(self, layer: Any, index: int) -> Any:
        def call(inputs: Any, training: bool | None = None) -> Any:
            if not training or layer.rate == 0:
                return tf.identity(inputs)
            seed = _fold_in(self._variable.read_value(), index)
            return tf.nn.experimental.stateless_dropout(
                inputs, rate=layer.rate, seed=seed, rng_alg="philox"
            )

        return call


def _fold_in(seed: Any, data: Any) -> Any:
    return tf.random.experimental.stateless_fold_in(seed, data, alg="philox")
