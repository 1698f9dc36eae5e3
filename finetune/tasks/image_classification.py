"""Picture → one of the recipe's labels, with a network from scratch or any of transformers'."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from bundle.manifest import ImagePreprocess
from bundle.preprocess import ImagePreprocessor, Raw, Tensors
from finetune import head
from finetune.data import source
from finetune.data.augment_images import ImageNoise
from finetune.data.images import Images
from finetune.data.picture_batches import PictureBatches, Sizes
from finetune.errors import ModelError
from finetune.head import ClassificationHead
from finetune.pretrained import Pretrained
from finetune.recipe import Recipe, Scratch
from finetune.residual_network import ResidualNetwork
from finetune.tasks.base import TaskData, digests, spread
from finetune.tasks.labels import LabelTask

_NOISE = ("flip", "rotation", "zoom", "contrast")
# Of each colour in ImageNet, as shares of full brightness: what most networks are trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageClassification(LabelTask):
    """A `Task`; see `base`. The graph normalizes, so a caller sends plain pixels."""

    assets: Mapping[str, bytes] = {}

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        size = recipe.data.image.size
        self.preprocessor = ImagePreprocessor(ImagePreprocess(height=size, width=size))
        self._sizes = Sizes(evaluation=size, training=recipe.data.image.scales or (size,))
        self._noise = ImageNoise(**{name: getattr(recipe.augment, name) for name in _NOISE})
        self.base = None if recipe.scratch else Pretrained(str(recipe.base_model))
        settings = self.base.settings("preprocessor_config.json") if self.base else {}
        self._mean = tuple(settings.get("image_mean") or _MEAN)
        self._deviation = tuple(settings.get("image_std") or _DEVIATION)
        self.base_name = self.base.name if self.base else "scratch"
        self.base_model_sha256 = self.base.sha256 if self.base else _sha256(recipe)

    def load_data(self) -> TaskData:
        settings = self.recipe.data
        paths = (settings.train, settings.dev, settings.test)
        train, dev, test = (source.read_images(path, settings.labels) for path in paths)
        return TaskData(train, dev, test, *digests(paths))

    def build_model(self) -> Any:
        recipe, labels = self.recipe, self.recipe.data.labels
        if self.base is None:
            model: Any = ResidualNetwork(recipe.scratch or Scratch(), recipe.seed)
            model.classifier = ClassificationHead(
                recipe.head, len(labels), model.features, recipe.seed, name="classifier"
            )
        else:
            model = self.base.load("TFAutoModelForImageClassification", labels)
            if not head.replace(model, recipe.head, len(labels), recipe.seed):
                raise self.base.error(f"{type(model).__name__} has no classifier to replace")
        for size in {self._sizes.evaluation, *self._sizes.training}:
            self._try(model, size)
        if len(self._sizes.training) > 1:
            _check_kernels(model)
        return model

    def _try(self, model: Any, size: int) -> None:
        """Refuses a size that the model can't take."""
        pixels = tf.zeros([1, size, size, 3], tf.uint8)
        try:
            self.logits(model, {"pixels": pixels}, training=False)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(
                f"data.image: {self.base_name} takes no pictures of {size} × {size} pixels: "
                f"{reason}. Choose the size that it was trained with, and no scales."
            ) from error

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        shares = tf.cast(batch["pixels"], tf.float32) / 255.0
        pixels = (shares - tf.constant(self._mean)) / tf.constant(self._deviation)
        if self.base is not None:  # transformers' models take the channels first
            pixels = tf.transpose(pixels, [0, 3, 1, 2])
        return tf.cast(model(pixels, training=training).logits, tf.float32)

    def steps(self, data: TaskData, epoch: int) -> int:
        del epoch
        return math.ceil(len(data.train) / self.recipe.data.batch_size)

    def training_batches(self, data: TaskData, epoch: int, multiple: int) -> Any:
        return self._pictures(data.train).training(
            self.recipe.data.batch_size,
            noise=self._noise,
            seed=self.recipe.seed,
            epoch=epoch,
            multiple=multiple,
        )

    def batches(self, split: Images, batch_size: int) -> Iterator[tuple[Sequence[int], Tensors]]:
        return self._pictures(split).evaluation(batch_size)

    def raw(self, split: Images, place: int) -> Raw:
        return split.pictures[place].read()

    def origin(self, split: Images, place: int) -> str:
        picture = split.pictures[place]
        return f"{picture.path}, byte {picture.offset}" if picture.offset else str(picture.path)

    def golden_places(self, split: Images, count: int) -> Sequence[int]:
        """Spread over the labels."""
        return spread(sorted(range(len(split)), key=split.labels.__getitem__), count)

    @functools.lru_cache(maxsize=1)  # noqa: B019 (a task lives as long as its job)
    def _pictures(self, split: Images) -> PictureBatches:
        return PictureBatches(split, self.preprocessor, self._sizes)


def _check_kernels(model: Any) -> None:
    """Refuses what corrupts memory: oneDNN's strided 1 × 1 convolution over several sizes."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or tf.config.list_physical_devices("GPU"):
        return
    for layer in model.submodules:
        strided = isinstance(layer, tf_keras.layers.Conv2D) and max(layer.strides) > 1
        if strided and max(layer.kernel_size) == 1:
            raise ModelError(
                f"data.image.scales: {type(model).__name__} has strided 1 × 1 convolutions, whose "
                "CPU kernels can't take several sizes; set TF_ENABLE_ONEDNN_OPTS=0, or one scale"
            )


def _sha256(recipe: Recipe) -> str:
    return hashlib.sha256(str(recipe.scratch).encode()).hexdigest()
