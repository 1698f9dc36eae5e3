"""The graph that an edge file is made of: our own where we have one, else the trained model's."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from finetune.export import encoder, picture_network
from finetune.export.encoder import Encoder
from finetune.export.picture_network import PictureNetwork
from finetune.export.serving_model import ServingModel


class InferenceGraph(ServingModel):
    """A trained model's answers to one example of a fixed shape, in operations for small devices.

    Args:
        trained: float32.
        graph: computes what its model does.
    """

    def __init__(self, trained: ServingModel, graph: Any) -> None:
        tf.Module.__init__(self)  # not the parent's, which takes every shape
        self.model = graph
        self._task = trained._task


def of(trained: ServingModel) -> ServingModel:
    """Our graph with a trained model's weights, or the model as it is when we have none for it."""
    model = trained.model
    if encoder.takes(model):
        return InferenceGraph(trained, Encoder(model))
    if picture_network.takes(model):
        return InferenceGraph(trained, PictureNetwork(model))
    return trained
