"""The custom head: dense, activation, dropout, projection to one logit a label."""

from __future__ import annotations

from typing import Any

import tf_keras

from finetune import recipe


class ClassificationHead(tf_keras.layers.Layer):  # type: ignore[misc]
    """Replaces a transformers model's `classifier`.

    Args:
        settings: the recipe's `head`.
        labels: number of labels, C.
        features: size of what the base model pools, the default of `hidden`.

    Call:
        features [B, features] in the compute dtype → logits [B, C], always float32: softmax and
        cross-entropy lose small probabilities in half precision.
    """

    def __init__(
        self, settings: recipe.Head, labels: int, features: int, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        initializer = tf_keras.initializers.TruncatedNormal
        self.dense = tf_keras.layers.Dense(
            settings.hidden or features,
            activation=settings.activation,
            kernel_initializer=initializer(stddev=0.02, seed=seed),
            name="dense",
        )
        self.dropout = tf_keras.layers.Dropout(settings.dropout, seed=seed)
        self.projection = tf_keras.layers.Dense(
            labels,
            kernel_initializer=initializer(stddev=0.02, seed=seed + 1),
            dtype="float32",
            name="projection",
        )
        self.build((None, features))

    def build(self, input_shape: Any) -> None:
        self.dense.build(input_shape)
        self.projection.build((None, self.dense.units))
        super().build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden = self.dropout(self.dense(inputs), training=training)
        return self.projection(hidden)
