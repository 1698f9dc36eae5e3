"""A small residual network for pictures, with random weights.

    pixels [B, H, W, 3] ─► stem ÷4 ─► stage 1 ─► ÷2 stage 2 ─► ÷2 stage 3 ─► ÷2 stage 4
                                                             mean over H, W ─► classifier [B, C]

Norms are over groups of channels, not over the batch: a batch that is cut for devices or
micro-batches then gives the same gradients, and training and deployment compute the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from finetune import recipe

_STAGES = 4
_CHANNELS_A_GROUP = 8


class Output(NamedTuple):
    """As transformers' models answer."""

    logits: Any  # [B, C]


class ResidualNetwork(tf_keras.Model):  # type: ignore[misc]
    """Pixels of any size → logits, once `classifier` is set.

    Args:
        settings: blocks of each stage, and channels of the last one.
        seed: of the weights.

    Source:
        He et al.: Identity Mappings in Deep Residual Networks, section 4, pre-activation blocks
        (arXiv 1603.05027); He et al.: Bag of Tricks, section 3.1 (zeros) and 4.2 (ResNet-D)
        (arXiv 1812.01187);
        Wu and He: Group Normalization, section 3 (arXiv 1803.08494).
    """

    def __init__(self, settings: recipe.Scratch, seed: int) -> None:
        super().__init__(name="residual_network")
        seeds = iter(range(seed, seed + 10_000))
        widths = [
            max(_CHANNELS_A_GROUP, settings.hidden >> (_STAGES - 1 - stage))
            // _CHANNELS_A_GROUP
            * _CHANNELS_A_GROUP
            for stage in range(_STAGES)
        ]
        self.features = widths[-1]
        self.stem = _convolution(widths[0], 4, next(seeds), kernel=7, name="stem")
        self.stack = [
            Block(
                width,
                stride=2 if place == 0 and stage else 1,
                changes=place == 0,
                seed=next(seeds),
                name=f"block_{stage}_{place}",
            )
            for stage, width in enumerate(widths)
            for place in range(settings.layers)
        ]
        # After the mean: a norm over height and width before it would make all means alike.
        self.norm = tf_keras.layers.LayerNormalization(epsilon=1e-6, name="norm")
        self.dropout = tf_keras.layers.Dropout(settings.dropout, seed=seed)
        self.classifier: Any = None
        self._made_from = {"settings": settings.model_dump(), "seed": seed}

    def get_config(self) -> dict[str, Any]:
        return dict(self._made_from)

    def call(self, pixels: Any, training: bool = False) -> Output:
        x = self.stem(pixels)
        for block in self.stack:
            x = block(x, training=training)
        pooled = self.norm(tf.reduce_mean(x, axis=[1, 2]))
        return Output(self.classifier(self.dropout(pooled, training=training), training=training))


class Block(tf_keras.layers.Layer):  # type: ignore[misc]
    """x + convolutions of x; `changes` says that the channels do."""

    def __init__(self, width: int, *, stride: int, changes: bool, seed: int, name: str) -> None:
        super().__init__(name=name)
        self.first_norm: Any = None  # made when the channels of x are known
        self.first = _convolution(width, stride, 2 * seed, name="first")
        self.second_norm = _norm(width, "second_norm")
        # Zeros: a block begins as its shortcut, and a deep network learns as a shallow one does.
        self.second = _convolution(width, 1, None, name="second")
        self.shortcut = (
            _convolution(width, 1, 3 * seed, kernel=1, name="shortcut") if changes else None
        )
        # Before the shortcut, not a stride inside it: that loses three pixels of four, and its
        # oneDNN kernel corrupts memory when pictures of several sizes pass it.
        self.pool = tf_keras.layers.AveragePooling2D(stride, padding="same", name="pool")

    def build(self, shape: Any) -> None:
        self.first_norm = _norm(shape[-1], "first_norm")
        super().build(shape)

    def call(self, x: Any, training: bool = False) -> Any:  # noqa: ARG002 (as every block)
        active = tf.nn.relu(self.first_norm(x))
        kept = x if self.shortcut is None else self.shortcut(self.pool(active))
        return kept + self.second(tf.nn.relu(self.second_norm(self.first(active))))


def _convolution(width: int, stride: int, seed: int | None, *, name: str, kernel: int = 3) -> Any:
    return tf_keras.layers.Conv2D(
        width,
        kernel,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer=("zeros" if seed is None else tf_keras.initializers.HeNormal(seed=seed)),
        name=name,
    )


def _norm(width: int, name: str) -> Any:
    return tf_keras.layers.GroupNormalization(width // _CHANNELS_A_GROUP, name=name)
