"""A trained text classifier as others call it: token ids in, float32 logits out."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.manifest import Signature, TensorSpec
from finetune.tasks.base import Task

_INPUTS = ("input_ids", "attention_mask")


class ServingModel(tf.Module):  # type: ignore[misc]
    """A model and the functions of it that are exported."""

    def __init__(self, task: Task, model: Any) -> None:
        super().__init__()
        self.model = model
        self._task = task
        # Not `serve`: by that name the TFLite converter takes the module for another kind.
        self.forward = self.function(None, None)

    def function(self, batch: int | None, tokens: int | None) -> Any:
        """A tf.function over int32 [batch, tokens]; None is a size known only when it runs."""
        specs = [tf.TensorSpec([batch, tokens], tf.int32, name=name) for name in _INPUTS]
        return tf.function(self._serve, input_signature=specs)

    def answer(self, text: str) -> NDArray[np.float32]:
        """Logits [C] of one text."""
        tensors = self._task.preprocessor([text])
        outputs = self.forward(tensors["input_ids"], tensors["attention_mask"])
        return np.asarray(outputs["logits"][0], np.float32)

    def _serve(self, input_ids: Any, attention_mask: Any) -> dict[str, Any]:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        return {"logits": self._task.logits(self.model, batch, training=False)}


def signature(labels: int, batch: int | None = None, tokens: int | None = None) -> Signature:
    """What the manifest says of `ServingModel.function(batch, tokens)`."""
    inputs = [TensorSpec(name=name, dtype="int32", shape=(batch, tokens)) for name in _INPUTS]
    logits = TensorSpec(name="logits", dtype="float32", shape=(batch, labels))
    return Signature(inputs=tuple(inputs), outputs=(logits,))
