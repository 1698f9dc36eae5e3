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

        pools: take the first token of [B, T, features], as RoBERTa's classifier does.

    Call:
        features [B, features] in the compute dtype → logits [B, C], always float32: softmax and
        cross-entropy lose small probabilities in half precision.
    """

    def __init__(
        self,
        settings: recipe.Head,
        labels: int,
        features: int,
        seed: int,
        *,
        pools: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._pools = pools
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
        self.dense.build((None, input_shape[-1]))
        self.projection.build((None, self.dense.units))
        super().build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        if self._pools and inputs.shape.rank == 3:
            inputs = inputs[:, 0]
        hidden = self.dropout(self.dense(inputs), training=training)
        return self.projection(hidden)


def replace(model: Any, settings: recipe.Head, labels: int, seed: int) -> bool:
    """Puts the custom head in the place of a transformers model's own.

    Returns:
        False if the model has no classifier by a known name.
    """
    name = _name(model)
    if name is None:
        return False
    pools = name == "classifier"
    features = _features(model.config)
    head = ClassificationHead(settings, labels, features, seed=seed, pools=pools, name=name)
    setattr(model, name, head)
    return True


def train_alone(model: Any) -> None:
    """Freezes all of a classifier but its head."""
    name = _name(model)
    head = None if name is None else getattr(model, name)
    for layer in model.layers:
        layer.trainable = layer is head


def _name(model: Any) -> str | None:
    """Of its classifier; `score` scores each token of a decoder."""
    return next((name for name in ("classifier", "score") if hasattr(model, name)), None)


def _features(config: Any) -> int:
    """How many features the base gives its classifier."""
    sizes = getattr(config, "hidden_sizes", None)  # of the stages of a network for pictures
    return int(sizes[-1] if sizes else config.hidden_size)
