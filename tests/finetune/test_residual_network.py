"""Laws of the network for pictures: any size, no example sees another, all of it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import recipe, recompute
from finetune.head import ClassificationHead
from finetune.residual_network import ResidualNetwork


@pytest.fixture(scope="module")
def network() -> Any:
    model = ResidualNetwork(recipe.Scratch(layers=1, hidden=64, dropout=0.0), seed=0)
    model.classifier = ClassificationHead(recipe.Head(dropout=0.0), 3, model.features, 0)
    model(tf.zeros([1, 16, 16, 3]))
    return model


def pictures(count: int, size: int) -> Any:
    return tf.constant(np.random.default_rng(0).normal(size=(count, size, size, 3)), tf.float32)


@pytest.mark.parametrize("size", [16, 17, 40])
def test_it_takes_any_size(network: Any, size: int) -> None:
    assert network(pictures(2, size)).logits.shape == (2, 3)


def test_no_picture_changes_the_answer_to_another(network: Any) -> None:
    batch = pictures(4, 24)
    together = network(batch, training=True).logits
    alone = [network(batch[place : place + 1], training=False).logits[0] for place in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_every_weight_gets_a_gradient(network: Any) -> None:
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(pictures(4, 32), training=True).logits ** 2)
    for variable, gradient in zip(
        network.trainable_variables,
        tape.gradient(loss, network.trainable_variables),
        strict=True,
    ):
        assert gradient is not None, variable.name
        assert np.isfinite(gradient).all()


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = (
        ResidualNetwork(recipe.Scratch(layers=1, hidden=64), s) for s in (0, 0, 1)
    )
    for model in (first, again, other):
        model.classifier = ClassificationHead(recipe.Head(), 3, model.features, 0)
        model(tf.zeros([1, 16, 16, 3]))
    kernels = [model.stack[1].first.kernel.numpy() for model in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_different_convolutions_start_differently(network: Any) -> None:
    kernels = [each for each in network.trainable_variables if each.shape.rank == 4]
    flat = {kernel.numpy().tobytes() for kernel in kernels}
    assert len(flat) == len(kernels)


def test_its_blocks_can_be_recomputed() -> None:
    model = ResidualNetwork(recipe.Scratch(layers=2, hidden=64, dropout=0.0), seed=0)
    model.classifier = ClassificationHead(recipe.Head(dropout=0.0), 3, model.features, 0)
    batch = pictures(2, 32)

    def gradients() -> list[Any]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(batch, training=True).logits ** 2)
        return list(tape.gradient(loss, model.trainable_variables))

    plain = gradients()
    assert recompute.checkpoint(model) == 8
    for found, expected in zip(gradients(), plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
