"""Our residual network as a graph for the edge, with the weights of a trained one.

    pixels [1, H, W, 3] ─► stem ─► blocks ─► mean ─► norm ─► head

A norm over groups of channels reads the whole picture. Its mean and variance are computed channel
by channel, over height and width, then averaged over a group by one small product: operations that
int8 kernels have, over no more than four axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from finetune.export.untracked import Untracked
from finetune.head import ClassificationHead
from finetune.residual_network import Output, ResidualNetwork


def takes(model: Any) -> bool:
    """Whether `PictureNetwork` computes all that a trained model does."""
    return isinstance(model, ResidualNetwork) and isinstance(model.classifier, ClassificationHead)


class PictureNetwork(tf.Module):  # type: ignore[misc]
    """The graph.

    Args:
        model: a trained model that `takes` accepts.
        normalize: pixels → what the trained model is given: a scale and a shift of each colour.

    Call:
        pixels, float32 [1, H, W, 3] from 0 to 255, H and W fixed → logits, float32 [1, C].
    """

    def __init__(self, model: ResidualNetwork, normalize: Callable[[Any], Any]) -> None:
        super().__init__(name="picture_network")
        self._weights = list(model.variables)
        self._network = Untracked(model)
        black, white = (normalize(tf.fill([1, 1, 1, 3], each)) for each in (0.0, 255.0))
        # One product for each pixel: three steps over so few channels each are slow kernels.
        self._colours = tf.linalg.diag((white - black)[0, 0, 0] / 255)[None, None]
        self._black = tf.reshape(black, [3])

    def __call__(self, pixels: Any, training: bool = False) -> Output:  # noqa: ARG002 (as every model)
        network = self._network.value
        with tf.name_scope("stem"):
            shown = tf.nn.conv2d(pixels, self._colours, 1, "VALID") + self._black
            x = _convolve(shown, network.stem)
        for block in network.stack:
            with tf.name_scope(block.name):
                x = _block(x, block)
        with tf.name_scope("head"):
            pooled = _normalize_features(tf.reduce_mean(x, axis=[1, 2]), network.norm)
            hidden = network.classifier.dense(pooled)
            return Output(network.classifier.projection(hidden))


def _block(x: Any, block: Any) -> Any:
    active = tf.nn.relu(_normalize_groups(x, block.first_norm))
    kept = x
    if block.shortcut is not None:
        kept = _convolve(_pool(active, block.pool), block.shortcut)
    inner = tf.nn.relu(_normalize_groups(_convolve(active, block.first), block.second_norm))
    return kept + _convolve(inner, block.second)


def _normalize_groups(x: Any, norm: Any) -> Any:
    with tf.name_scope("norm"):
        size = x.shape[-1] // norm.groups  # channels of a group
        group = np.arange(x.shape[-1]) // size
        average = (group[:, None] == group).astype(np.float32) / size
        centred = x - _over_groups(x, average)
        variance = _over_groups(centred * centred, average)
        scale = tf.math.rsqrt(variance + norm.epsilon) * norm.gamma
        return centred * scale + norm.beta


def _convolve(x: Any, layer: Any) -> Any:
    return tf.nn.conv2d(x, layer.kernel, layer.strides, "SAME")


def _pool(x: Any, layer: Any) -> Any:
    size = layer.pool_size
    return x if size == (1, 1) else tf.nn.avg_pool2d(x, size, layer.strides, "SAME")


def _over_groups(x: Any, average: NDArray[np.float32]) -> Any:
    """The mean over height, width and a group's channels: [1, H, W, C] → [1, 1, 1, C]."""
    channels = tf.reduce_mean(x, axis=[1, 2])
    return tf.reshape(tf.matmul(channels, average), [1, 1, 1, x.shape[-1]])


def _normalize_features(x: Any, norm: Any) -> Any:
    with tf.name_scope("norm"):
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
        return centred * tf.math.rsqrt(variance + norm.epsilon) * norm.gamma + norm.beta
