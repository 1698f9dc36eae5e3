"""Laws of the optimizer: AdamW as published, no decay of biases and norms, scaling in float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import optimizer as optimizers
from finetune import recipe
from finetune.precision import Policy

SCHEDULE = recipe.Schedule(warmup=0.0, floor=1.0)  # constant
RATE, DECAY = 0.1, 0.5


@pytest.fixture
def variables() -> list[tf.Variable]:
    """A kernel, a bias and the scale of a norm."""
    return [
        tf.Variable(tf.ones([2, 3]), name="kernel"),
        tf.Variable(tf.ones([3]), name="bias"),
        tf.Variable(tf.ones([3]), name="LayerNorm/gamma"),
    ]


def build(variables: Sequence[Any], policy: Policy = "float32") -> Any:
    settings = recipe.Optimizer(learning_rate=RATE, weight_decay=DECAY, epsilon=1e-8)
    return optimizers.build(settings, SCHEDULE, 10, policy, variables)


def apply(optimizer: Any, variables: Sequence[Any], gradients: Sequence[Any]) -> None:
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def test_only_kernels_decay(variables: list[tf.Variable]) -> None:
    """Without a gradient, weight decay is all that can move a weight."""
    apply(build(variables), variables, [tf.zeros_like(variable) for variable in variables])
    kernel, bias, scale = (variable.numpy() for variable in variables)
    np.testing.assert_allclose(kernel, 1 - RATE * DECAY, rtol=1e-6)
    np.testing.assert_array_equal(bias, 1)
    np.testing.assert_array_equal(scale, 1)


def test_steps_are_those_of_algorithm_2(variables: list[tf.Variable]) -> None:
    """Loshchilov and Hutter (arXiv 1711.05101), computed beside it with NumPy."""
    optimizer = build(variables)
    generator = np.random.default_rng(0)
    weight, m, v = np.ones([2, 3]), np.zeros([2, 3]), np.zeros([2, 3])
    for step in range(1, 4):
        gradient = generator.normal(size=(2, 3))
        apply(optimizer, variables[:1], [tf.constant(gradient, tf.float32)])
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        adam = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        weight = weight - RATE * (adam + DECAY * weight)
    np.testing.assert_allclose(variables[0].numpy(), weight, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_loss_and_gradients_pass_untouched_where_nothing_overflows(
    variables: list[tf.Variable], policy: Policy
) -> None:
    optimizer = build(variables, policy)
    assert not isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
    assert float(optimizers.scale_loss(optimizer, tf.constant(2.0))) == 2.0
    (gradient,) = optimizers.unscale(optimizer, [tf.constant([3.0])])
    assert gradient.numpy().tolist() == [3.0]


def test_float16_scales_the_loss_and_unscales_the_gradients(variables: list[tf.Variable]) -> None:
    optimizer = build(variables, "mixed_float16")
    scale = float(optimizer.loss_scale)
    assert scale > 1
    assert float(optimizers.scale_loss(optimizer, tf.constant(2.0))) == 2 * scale
    (gradient,) = optimizers.unscale(optimizer, [tf.constant([3.0 * scale])])
    assert gradient.numpy().tolist() == [3.0]


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_step_that_overflowed_changes_nothing_and_scales_less(
    variables: list[tf.Variable], bad: float
) -> None:
    optimizer = build(variables, "mixed_float16")
    scale = float(optimizer.loss_scale)
    finite = [tf.zeros_like(variable) for variable in variables]
    apply(optimizer, variables, [tf.fill([2, 3], bad), *finite[1:]])
    assert float(optimizer.loss_scale) == scale / 2
    np.testing.assert_array_equal(variables[0].numpy(), 1)
    apply(optimizer, variables, finite)
    assert variables[0].numpy().max() < 1


def test_sparse_gradients_become_dense(variables: list[tf.Variable]) -> None:
    sparse = tf.IndexedSlices(tf.ones([1, 3]), tf.constant([1]), tf.constant([2, 3]))
    (dense,) = optimizers.unscale(build(variables), [sparse])
    assert dense.numpy().tolist() == [[0, 0, 0], [1, 1, 1]]


def test_the_rate_follows_the_schedule(variables: list[tf.Variable]) -> None:
    settings = recipe.Optimizer(learning_rate=1.0, weight_decay=1e-3)
    schedule = recipe.Schedule(warmup=0.5, floor=0.0)
    optimizer = optimizers.build(settings, schedule, 4, "float32", variables)
    rates = []
    for _ in range(5):
        apply(optimizer, variables, [tf.zeros_like(variable) for variable in variables])
        rates.append(float(optimizer.learning_rate))  # what the step just used
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0])


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_deeper_variable_moves_less_by_the_layer_decay(policy: Policy) -> None:
    """Its step and its weight decay alike: as if its own learning rate were smaller."""
    settings = recipe.Optimizer(learning_rate=RATE, weight_decay=DECAY, layer_decay=0.5)
    moved = {}
    for depth in range(3):
        found = [tf.Variable(tf.ones([2, 3])) for _ in range(3)]
        optimizer = optimizers.build(settings, SCHEDULE, 10, policy, found, [0, 1, 2])
        apply(optimizer, found, [tf.ones([2, 3]) for _ in found])
        assert optimizers.learning_rate(optimizer) == pytest.approx(RATE)
        moved[depth] = float(1 - found[depth][0, 0])
    assert moved[1] / moved[2] == pytest.approx(0.5, rel=1e-3)
    assert moved[0] / moved[2] == pytest.approx(0.25, rel=1e-3)


def test_the_layer_decay_of_a_replicated_variable_is_its_own(tmp_path: Any) -> None:
    """A strategy hands the optimizer each device's copy; a checkpoint must not mind either."""
    settings = recipe.Optimizer(learning_rate=RATE, weight_decay=0.0, layer_decay=0.5)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        found = [tf.Variable(tf.ones([2, 3])) for _ in range(2)]
        optimizer = optimizers.build(settings, SCHEDULE, 10, "float32", found, [0, 1])

    @tf.function
    def step() -> None:
        gradients = [tf.ones([2, 3]) for _ in found]
        strategy.run(lambda: apply(optimizer, found, gradients))

    step()
    shallow, deep = (float(1 - variable.numpy()[0, 0]) for variable in found)
    assert shallow / deep == pytest.approx(0.5, rel=1e-3)
    tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / "state"))
