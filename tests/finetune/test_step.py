"""Laws of a step: splitting it changes nothing, clipping bounds it, an overflow is skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import precision
from finetune.distribution import Distribution
from finetune.dropout import DropoutSeed
from finetune.step import Step
from finetune.tasks.base import TaskData
from finetune.tasks.text_classification import TextClassification


def batch(task: TextClassification, data: TaskData, rows: int = 8) -> dict[str, Any]:
    tensors = task.preprocessor.pad(data.train.ids[:rows], 16)
    weights = np.ones(rows, np.float32)
    weights[-1] = 0.0  # a row that only fills
    arrays = {**tensors, "labels": data.train.labels[:rows], "weights": weights}
    return {name: tf.constant(values) for name, values in arrays.items()}


def make(task: TextClassification, model: Any, optimizer: Any, **settings: Any) -> Step:
    optimizer.build(model.trainable_variables)
    settings = {"clip_norm": None} | settings
    return Step(task, model, optimizer, DropoutSeed(model, 0), Distribution(), **settings)


def update(task: TextClassification, data: TaskData, **settings: Any) -> list[Any]:
    """How one step of plain gradient descent with a rate of 1 moves the weights: the gradient."""
    model = task.build_model()
    before = [tf.identity(variable) for variable in model.trainable_variables]
    step = make(task, model, tf_keras.optimizers.SGD(1.0), **settings)
    step(batch(task, data), 3)
    return [
        (then - now).numpy() for now, then in zip(model.trainable_variables, before, strict=True)
    ]


@pytest.fixture(scope="module")
def plain_task(tiny_recipe: Any, tiny_base: Any) -> TextClassification:
    return TextClassification(tiny_recipe("head.dropout=0"))


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rows in a batch mean other masks, so what is split is compared without them."""
    build = TextClassification.build_model

    def without(self: TextClassification) -> Any:
        model = build(self)
        for layer in model.submodules:
            if isinstance(layer, tf_keras.layers.Dropout):
                layer.rate = 0.0
        return model

    monkeypatch.setattr(TextClassification, "build_model", without)


@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_accumulated_micro_batches_equal_one_batch(
    plain_task: TextClassification, data: TaskData, no_dropout: None, pieces: int
) -> None:
    whole = update(plain_task, data)
    for one, other in zip(whole, update(plain_task, data, micro_batches=pieces), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_rows_without_weight_change_nothing(
    plain_task: TextClassification, data: TaskData, no_dropout: None
) -> None:
    model = plain_task.build_model()
    full = batch(plain_task, data)
    short = {name: values[:-1] for name, values in full.items()}
    losses = [
        make(plain_task, model, tf_keras.optimizers.SGD(0.0))(one, 0) for one in (full, short)
    ]
    assert float(losses[0].loss) == pytest.approx(float(losses[1].loss), rel=1e-6)
    assert [float(one.examples) for one in losses] == [7.0, 7.0]


@pytest.mark.parametrize("clip_norm", [0.01, None])
def test_clipping_bounds_the_update(
    plain_task: TextClassification, data: TaskData, clip_norm: float | None
) -> None:
    norm = float(tf.linalg.global_norm(update(plain_task, data, clip_norm=clip_norm)))
    if clip_norm is None:
        assert norm > 0.05
    else:
        assert norm == pytest.approx(clip_norm, rel=1e-3)


def test_the_norm_it_tells_is_of_the_true_gradient(
    plain_task: TextClassification, data: TaskData
) -> None:
    """Unscaled and unclipped, also under loss scaling; the blocks' norms make up the whole."""
    norms = []
    for policy in ("float32", "mixed_float16"):
        with precision.scope(policy):
            model = plain_task.build_model()
        optimizer: Any = tf_keras.optimizers.SGD(1.0)
        if policy == "mixed_float16":
            optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
        step = make(plain_task, model, optimizer, clip_norm=0.001)
        outcome = step(batch(plain_task, data), 0)
        norms.append(float(outcome.gradient_norm))
        blocks = [float(norm) for norm in outcome.block_norms.values()]
        assert np.hypot.reduce(blocks) == pytest.approx(norms[-1], rel=1e-3)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_a_step_that_overflows_in_float16_is_skipped_and_told(
    task: TextClassification, data: TaskData
) -> None:
    with precision.scope("mixed_float16"):
        model = task.build_model()
    optimizer = tf_keras.mixed_precision.LossScaleOptimizer(
        tf_keras.optimizers.SGD(1.0), initial_scale=2.0**60
    )
    before = [variable.numpy() for variable in model.trainable_variables]
    outcome = make(task, model, optimizer, clip_norm=1.0)(batch(task, data), 0)
    assert np.isfinite(float(outcome.loss))
    assert float(outcome.finite) == 0.0
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert float(optimizer.loss_scale) == 2.0**59


def test_few_shapes_are_few_compilations(task: TextClassification, data: TaskData) -> None:
    step = make(task, task.build_model(), tf_keras.optimizers.SGD(0.1), fuse=True)
    for number in range(6):
        step(batch(task, data, rows=4 + 4 * (number % 2)), number)
    assert step.compilations <= 2
