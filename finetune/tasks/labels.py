"""What tasks that choose one of the recipe's labels have in common, whatever they look at."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf

from finetune import evaluate
from finetune.progress import Progress
from finetune.recipe import Recipe


class LabelTask(abc.ABC):
    """Part of a `Task`; see `base`."""

    recipe: Recipe

    @abc.abstractmethod
    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any: ...

    @property
    def outcomes(self) -> int:
        return len(self.recipe.data.labels)

    def loss(self, logits: Any, batch: dict[str, Any]) -> Any:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], logits)

    def weights(self, batch: dict[str, Any]) -> Any:
        return batch["weights"]

    def answer(self, model: Any, inputs: dict[str, Any]) -> Any:
        return self.logits(model, inputs, training=False)

    def measure(
        self, model: Any, split: Any, *, progress: Progress, title: str
    ) -> evaluate.Classified:
        task: Any = self  # a subclass is a whole one
        logits = evaluate.predict(task, model, split, progress=progress, title=title)
        labels = np.asarray(split.labels, np.int32)
        return evaluate.Classified(logits, labels, self.recipe.data.labels)
