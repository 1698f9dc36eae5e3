"""Text → one of the recipe's labels, with any model for it that transformers has in TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from finetune import head
from finetune.data import batches, source
from finetune.data.augment_text import TextAugmenter, TextNoise
from finetune.data.batches import Encoded
from finetune.data.jsonl import Examples
from finetune.recipe import Recipe
from finetune.tasks.base import TaskData, digests
from finetune.tasks.labels import LabelTask
from finetune.tasks.text import TextTask

_NOISE = ("mask", "delete", "swap", "span", "span_tokens")


class TextClassification(LabelTask, TextTask):
    """A `Task`; see `base`."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, keep="first", frames=True)
        self.noise = TextNoise(**{name: getattr(recipe.augment, name) for name in _NOISE})

    def texts(self) -> Iterable[str]:
        return self._read(0, check=False).texts

    def load_data(self) -> TaskData:
        parts = [self._read(place) for place in range(3)]
        train, dev, test = (
            batches.encode(self.preprocessor, part.texts, part.labels) for part in parts
        )
        settings = self.recipe.data
        return TaskData(train, dev, test, *digests((settings.train, settings.dev, settings.test)))

    def _read(self, place: int, *, check: bool = True) -> Examples:
        settings = self.recipe.data
        return source.read_text(
            (settings.train, settings.dev, settings.test)[place],
            settings.labels,
            self.preprocessor.check if check else None,
            text_column=settings.text_column,
            label_column=settings.label_column,
        )

    def build_model(self) -> Any:
        labels = self.recipe.data.labels
        model = self.base.load("TFAutoModelForSequenceClassification", labels)
        if model.config.pad_token_id is None:  # a decoder finds a text's last token by it
            model.config.pad_token_id = self.preprocessor.spec.pad_id
        place = head.replace(model, self.recipe.head, len(labels), self.recipe.seed)
        token = tf.ones([1, 1], tf.int32)
        inputs = {"input_ids": token, "attention_mask": token}
        answer = self.logits(model, inputs, training=False) if place else None
        if answer is None or answer.shape != (1, len(labels)):
            raise self.base.error(f"{type(model).__name__} has no classifier that can be replaced")
        return model

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        return tf.cast(model(inputs, training=training).logits, tf.float32)

    def origin(self, split: Encoded, place: int) -> str:
        return f"example {place + 1} ({' '.join(split.texts[place].split())[:60]!r})"

    def epoch(self, data: TaskData, epoch: int) -> Encoded:
        """The training split with an epoch's noise, if the recipe wants any."""
        if not self.noise.changes:
            return super().epoch(data, epoch)
        train: Encoded = data.train
        return Encoded(self._augmenter.epoch(train.ids, epoch), train.labels, train.texts)

    @functools.cached_property
    def _augmenter(self) -> TextAugmenter:
        return TextAugmenter.of_tokenizer(
            self.base.tokenizer_json,
            self.noise,
            pad_id=self.preprocessor.spec.pad_id,
            seed=self.recipe.seed,
        )
