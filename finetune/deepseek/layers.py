"""The small parts that every block shares: projection and norm."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek.config import DecoderConfig


def projection(config: DecoderConfig, units: int, name: str, *, bias: bool = False) -> Any:
    """A linear layer to `units` features."""
    return tf_keras.layers.Dense(
        units,
        use_bias=bias,
        kernel_initializer=tf_keras.initializers.RandomNormal(stddev=config.initializer_range),
        name=name,
    )


class RootMeanSquareNorm(tf_keras.layers.Layer):  # type: ignore[misc]
    """x · gain / √(mean(x²) + ε), the mean in float32 whatever the dtype of x.

    Source:
        Zhang and Sennrich: Root Mean Square Layer Normalization, equation 4 (arXiv 1910.07467).
    """

    def __init__(self, epsilon: float, name: str) -> None:
        super().__init__(name=name)
        self._epsilon = epsilon

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=shape[-1:], initializer="ones")
        super().build(shape)

    def call(self, x: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        mean = tf.reduce_mean(wide * wide, axis=-1, keepdims=True)
        normed = tf.cast(wide * tf.math.rsqrt(mean + self._epsilon), x.dtype)
        return normed * tf.cast(self.gain, x.dtype)
