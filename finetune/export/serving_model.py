"""A trained model as others call it: the preprocessor's tensors in, float32 logits out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.manifest import Preprocess, Signature, TensorSpec
from bundle.preprocess import Raw, Tensors
from finetune.tasks.base import Task

Shape = Sequence[int | None]


class ServingModel(tf.Module):  # type: ignore[misc]
    """A model and the functions of it that are exported."""

    def __init__(self, task: Task, model: Any) -> None:
        super().__init__()
        self.model = model
        self.task = task
        # Not `serve`: by that name the TFLite converter takes the module for another kind.
        self.forward = self.function(None, task.preprocessor.spec.shape)

    def function(self, batch: int | None, shape: Shape) -> Any:
        """A tf.function over inputs [batch, *shape]; None is a size known only when it runs."""
        specs = {
            name: tf.TensorSpec([batch, *shape], dtype, name=name)
            for name, dtype in self.task.preprocessor.spec.inputs.items()
        }

        def serve(**inputs: Any) -> dict[str, Any]:
            return {"logits": self.task.answer(self.model, inputs)}

        # Concrete, since a tf.function has no input signature for arguments by name.
        return tf.function(serve).get_concrete_function(**specs)

    def answer(self, raw: Raw) -> NDArray[np.float32]:
        """Logits [C] of one raw input."""
        tensors: Tensors = self.task.preprocessor([raw])
        outputs = self.forward(**{name: tf.constant(each) for name, each in tensors.items()})
        return np.asarray(outputs["logits"][0], np.float32)


def signature(
    spec: Preprocess, outputs: int | None, batch: int | None = None, shape: Shape | None = None
) -> Signature:
    """What the manifest says of `ServingModel.function(batch, shape)`.

    Args:
        outputs: C; None for a language model, whose vocabulary is its own affair.
        shape: by default the one that fits every input.
    """
    sizes = (batch, *(spec.shape if shape is None else shape))
    inputs = [
        TensorSpec(name=name, dtype=dtype, shape=sizes) for name, dtype in spec.inputs.items()
    ]
    logits = TensorSpec(name="logits", dtype="float32", shape=(batch, outputs))
    return Signature(inputs=tuple(inputs), outputs=(logits,))
