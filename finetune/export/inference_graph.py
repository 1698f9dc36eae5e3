"""The graph that an edge file is made of: our own where we have one, else the trained model's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from bundle.preprocess import Preprocessor
from finetune.deepseek.decoder import SequenceClassifier
from finetune.export import decoder, encoder, picture_network
from finetune.export.encoder import Encoder
from finetune.export.picture_network import PictureNetwork
from finetune.export.serving_model import ServingModel
from finetune.residual_network import Output


class InferenceGraph(ServingModel):
    """A trained model's answers to one example of a fixed shape, in operations for small devices.

    Args:
        task: what gives a graph its inputs.
        graph: computes what the trained model does.
    """

    def __init__(self, task: Any, graph: Any) -> None:
        tf.Module.__init__(self)  # not the parent's, which takes every shape
        self.model = graph
        self.task = task


@dataclass(frozen=True)
class _Pictures:
    """Gives a graph the pixels as they are, since ours normalizes them itself."""

    preprocessor: Preprocessor

    def answer(self, model: Any, inputs: dict[str, Any]) -> Any:
        return model(tf.cast(inputs["pixels"], tf.float32)).logits


def of(trained: ServingModel, *, for_int8: bool = False) -> ServingModel:
    """Our graph with a trained model's weights, or the model as it is when we have none for it.

    Args:
        for_int8: it will compute in int8 throughout.
    """
    model, task = trained.model, trained.task
    if encoder.takes(model):
        return InferenceGraph(task, Encoder(model, for_int8=for_int8))
    if isinstance(model, SequenceClassifier) and decoder.takes(model):
        return InferenceGraph(task, decoder.Classifier(model))
    if picture_network.takes(model):

        def normalize(pixels: Any) -> Any:
            batch = {"pixels": pixels}
            return task.logits(_seen, batch, training=False)

        return InferenceGraph(_Pictures(task.preprocessor), PictureNetwork(model, normalize))
    return trained


def _seen(pixels: Any, *, training: bool) -> Output:  # noqa: ARG001 (as every model)
    """A model that tells what it is given."""
    return Output(pixels)
