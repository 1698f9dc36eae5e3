"""Pictures → batches of pixels, in several scales.

    shuffle ─► batch ─► draw a scale ─► pixels at the largest ─► that scale ─► noise ─► prefetch
                                         (kept if they fit)

A scale is drawn for the whole batch, so that its pictures stack; evaluation knows one scale only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.errors import InputError
from bundle.preprocess import ImagePreprocessor
from finetune.data import batches
from finetune.data.augment_images import ImageNoise, augment
from finetune.data.images import Images
from finetune.errors import DataError

_KEPT_BYTES = 2 << 30  # more pixels than this are decoded anew each epoch
_DECODERS = 4


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large pictures are, in pixels."""

    evaluation: int
    training: tuple[int, ...]


class PictureBatches:
    """Batches of a data set's pictures, each decoded by the bundle's one preprocessing."""

    def __init__(self, images: Images, preprocessor: ImagePreprocessor, sizes: Sizes) -> None:
        self._images = images
        self._preprocessor = preprocessor
        self._sizes = sizes
        self._labels = np.asarray(images.labels, np.int32)
        self._kept: NDArray[np.uint8] | None = None

    def training(
        self,
        batch_size: int,
        *,
        noise: ImageNoise,
        seed: int,
        epoch: int,
        multiple: int = 1,
    ) -> Any:
        """A tf.data.Dataset of one epoch, in an order that seed and epoch decide.

        Args:
            multiple: what each batch's size must be a multiple of; `batch_size` is one.

        Yields:
            `{"pixels", "labels", "places", "weights"}`: uint8 [B, S, S, 3], int32 [B], int32 [B],
            float32 [B]; every picture once with weight 1. S is drawn for each batch.
        """
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(len(self._images)).astype(np.int32)
        steps = math.ceil(len(order) / batch_size)
        sizes = generator.choice(self._sizes.training, steps).astype(np.int32)
        largest = self._sizes.training[-1]

        def read(places: Any) -> Any:
            pixels = tf.numpy_function(self._pixels, [places], tf.uint8, stateful=False)
            return tf.ensure_shape(pixels, [None, largest, largest, 3])

        def batch(step: Any, places: Any) -> dict[str, Any]:
            pixels = scale(read(places), tf.gather(sizes, step))
            # Each epoch has noise of its own, and so has each of its steps.
            pixels = augment(pixels, noise, seed=seed, step=step + epoch * steps)
            labels = tf.gather(self._labels, places)
            return batches.fill({"pixels": pixels, "labels": labels, "places": places}, multiple)

        dataset = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate()
        dataset = dataset.map(lambda step, places: batch(tf.cast(step, tf.int32), places))
        return dataset.prefetch(2)

    def evaluation(self, batch_size: int) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
        """Every picture once, in order, as deployment will see it: places, and `pixels`."""
        for first in range(0, len(self._images), batch_size):
            places = range(first, min(first + batch_size, len(self._images)))
            yield places, {"pixels": self._decode(places, self._sizes.evaluation)}

    def _pixels(self, places: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Pictures at the largest training scale: uint8 [B, S, S, 3]."""
        size = self._sizes.training[-1]
        if len(self._images) * size * size * 3 > _KEPT_BYTES:
            return self._decode(places, size)
        if self._kept is None:
            self._kept = self._decode(range(len(self._images)), size)
        return self._kept[places]

    def _decode(self, places: Sequence[int] | NDArray[np.int32], size: int) -> NDArray[np.uint8]:
        def one(place: int) -> NDArray[np.uint8]:
            picture = self._images.pictures[place]
            try:
                return self._preprocessor.decode(picture.read(), size, size)
            except InputError as error:
                raise DataError(f"{picture.path}, byte {picture.offset}: {error}") from error

        with ThreadPoolExecutor(_DECODERS) as threads:
            return np.stack(list(threads.map(one, places)))


def scale(pixels: Any, size: Any) -> Any:
    """Pixels uint8 [B, H, W, 3] as [B, size, size, 3], antialiased as the preprocessing does."""

    def resized() -> Any:
        scaled = tf.image.resize(pixels, tf.stack([size, size]), antialias=True)
        return tf.cast(tf.round(scaled), tf.uint8)

    scaled = tf.cond(tf.equal(size, tf.shape(pixels)[1]), lambda: pixels, resized)
    return tf.ensure_shape(scaled, [None, None, None, 3])
