"""Laws of noise on pictures: seed and step decide, type and range stay, geometry is Keras'."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune.data.augment_images import ImageNoise, augment, transform
from finetune.errors import RecipeError

ALL = ImageNoise(flip=True, rotation=0.1, zoom=0.2, contrast=0.3)
EACH = [
    ImageNoise(flip=True),
    ImageNoise(rotation=0.1),
    ImageNoise(zoom=0.2),
    ImageNoise(contrast=0.3),
]


def pictures(count: int = 8, height: int = 12, width: int = 16, seed: int = 0) -> Any:
    """Smooth ones, so that resampling keeps their looks: uint8 [B, H, W, 3]."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 3))
    return tf.cast(tf.image.resize(coarse, [height, width]), tf.uint8)


def test_seed_and_step_decide() -> None:
    first = augment(pictures(), ALL, seed=1, step=2)
    np.testing.assert_array_equal(first, augment(pictures(), ALL, seed=1, step=2))
    assert not np.array_equal(first, augment(pictures(), ALL, seed=2, step=2))
    assert not np.array_equal(first, augment(pictures(), ALL, seed=1, step=3))


def test_a_parallel_pipeline_and_eager_agree() -> None:
    batches = tf.data.Dataset.from_tensor_slices(tf.stack([pictures(seed=s) for s in range(6)]))

    def noisy(step: Any, batch: Any) -> Any:
        return augment(batch, ALL, seed=0, step=step)

    for _ in range(2):
        found = batches.enumerate().map(noisy, num_parallel_calls=4)
        for step, batch in enumerate(found):
            expected = augment(pictures(seed=step), ALL, seed=0, step=step)
            difference = np.abs(batch.numpy().astype(int) - expected.numpy().astype(int))
            assert difference.max() <= 1  # rounding in another order


@pytest.mark.parametrize("noise", EACH)
def test_each_kind_changes_pictures_each_in_its_own_way(noise: ImageNoise) -> None:
    same = tf.repeat(pictures(1), 32, axis=0)
    noisy = augment(same, noise, seed=0, step=0).numpy()
    assert len({picture.tobytes() for picture in noisy}) >= 2
    assert any(not np.array_equal(picture, same[0]) for picture in noisy)


def test_no_noise_changes_nothing() -> None:
    np.testing.assert_array_equal(augment(pictures(), ImageNoise(), seed=0, step=0), pictures())


@pytest.mark.parametrize(
    ("kind", "scale"), [(tf.uint8, 1.0), (tf.float32, 1.0), (tf.float32, 1 / 255), (tf.float16, 1)]
)
def test_type_shape_and_range_stay(kind: Any, scale: float) -> None:
    images = tf.cast(tf.cast(pictures(), tf.float32) * scale, kind)
    noisy = augment(images, ALL, seed=0, step=0, value_range=(0.0, 255.0 * scale))
    assert noisy.dtype == kind
    assert noisy.shape == images.shape
    assert noisy.numpy().min() >= 0
    assert noisy.numpy().max() <= 255 * scale


def test_flips_are_exact_and_half() -> None:
    images = pictures(200)
    noisy = augment(images, ImageNoise(flip=True), seed=0, step=0).numpy()
    mirrored = images.numpy()[:, :, ::-1]
    flipped = [np.array_equal(a, b) for a, b in zip(noisy, mirrored, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(noisy, images.numpy(), strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 70 <= sum(flipped) <= 130


def test_contrast_keeps_the_mean_and_scales_the_rest() -> None:
    images = tf.cast(pictures(), tf.float32) / 4 + 96  # far from both ends
    noisy = augment(images, ImageNoise(contrast=0.3), seed=0, step=0).numpy()
    mean = images.numpy().mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(noisy.mean(axis=(1, 2), keepdims=True), mean, rtol=1e-4)
    for before, after in zip(images.numpy() - mean, noisy - mean, strict=True):
        factor = after.std() / before.std()
        assert 0.7 <= factor <= 1.3
        np.testing.assert_allclose(after, before * factor, atol=0.01)


def parameters(flipped: bool = False, angle: float = 0.0, zoom: float = 1.0) -> list[Any]:
    return [tf.constant([value]) for value in (flipped, angle, zoom)]


@pytest.mark.parametrize("share", [-0.2, 0.05, 0.25])
def test_rotation_is_keras(share: float) -> None:
    images = tf.cast(pictures(1), tf.float32)
    theirs = tf_keras.layers.RandomRotation((share, share))(images, training=True)
    ours = transform(images, *parameters(angle=2 * math.pi * share))
    np.testing.assert_allclose(ours, theirs, atol=0.05)


@pytest.mark.parametrize("share", [-0.3, 0.2])
def test_zoom_is_keras(share: float) -> None:
    images = tf.cast(pictures(1), tf.float32)
    theirs = tf_keras.layers.RandomZoom((share, share))(images, training=True)
    ours = transform(images, *parameters(zoom=1 + share))
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_a_flip_comes_before_the_rest() -> None:
    images = tf.cast(pictures(1), tf.float32)
    mirrored = tf.image.flip_left_right(images)
    np.testing.assert_allclose(
        transform(images, *parameters(True, 0.3, 1.1)),
        transform(mirrored, *parameters(False, 0.3, 1.1)),
        atol=0.05,
    )


@pytest.mark.parametrize("name", ["rotation", "zoom", "contrast"])
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(RecipeError, match=rf"augment\.{name}: {value} must be at least 0"):
        ImageNoise(**{name: value})
