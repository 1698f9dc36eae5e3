"""Laws of the residual network's graph: it computes what the trained network does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.export import picture_network
from finetune.export.picture_network import PictureNetwork
from finetune.head import ClassificationHead
from finetune.recipe import Head, Scratch
from finetune.residual_network import ResidualNetwork


@pytest.fixture(scope="module")
def network() -> ResidualNetwork:
    """With weights as after a training: none of them 0."""
    model = ResidualNetwork(Scratch(layers=2, hidden=64), 0)
    model.classifier = ClassificationHead(Head(), 3, model.features, 0, name="classifier")
    model(tf.zeros([1, 32, 32, 3]))
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(generator.normal(0, 0.1, variable.shape))
    return model


def normalize(pixels: Any) -> Any:
    return (pixels / 255 - tf.constant([0.4, 0.5, 0.6])) / tf.constant([0.2, 0.25, 0.3])


@pytest.mark.parametrize("size", [32, 40])
def test_answers_are_the_trained_networks(network: ResidualNetwork, size: int) -> None:
    assert picture_network.takes(network)
    pixels = np.random.default_rng(1).integers(0, 256, (1, size, size, 3)).astype(np.float32)
    found = PictureNetwork(network, normalize)(pixels).logits
    np.testing.assert_allclose(found, network(normalize(pixels)).logits, rtol=1e-3, atol=1e-4)
