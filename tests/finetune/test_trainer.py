"""Laws of training: the loss falls, a seed fixes it, and nothing that is not a number gets out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import precision, trainer
from finetune.errors import TrainingError
from finetune.precision import Policy
from finetune.progress import Advance, Silent
from finetune.tasks.base import TaskData
from finetune.tasks.text_classification import TextClassification
from finetune.trainer import Trained


class Recorded(Silent):
    """Keeps what was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int]] = []
        self.counts: list[int] = []
        self.notes: list[str] = []

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[Advance]:
        self.shown.append((title, total))

        def advance(count: int = 1, note: str = "") -> None:
            self.counts.append(count)
            self.notes.append(note)

        yield advance


@pytest.fixture(scope="module")
def progress() -> Recorded:
    return Recorded()


@pytest.fixture(scope="module")
def trained(task: TextClassification, data: TaskData, progress: Recorded) -> Trained:
    return trainer.train(task, task.recipe, data, progress)


def short(tiny_recipe: Any, data: TaskData, *overrides: str) -> Trained:
    recipe = tiny_recipe("schedule.epochs=1", *overrides)
    return trainer.train(TextClassification(recipe), recipe, data, Silent())


def test_the_loss_falls_on_a_task_that_can_be_learnt(trained: Trained) -> None:
    assert np.mean(trained.losses[:5]) == pytest.approx(np.log(2), abs=0.05)
    assert np.mean(trained.losses[-5:]) < 0.3


def test_figures_say_how_it_went(trained: Trained, data: TaskData) -> None:
    figures = json.loads(json.dumps(trained.figures()))
    assert "model" not in figures
    assert figures["examples"] == 3 * len(data.train)
    assert figures["steps"] == len(figures["losses"]) > 3 * len(data.train) / 8
    assert figures["skipped_steps"] == 0
    assert figures["examples_per_s"] == pytest.approx(figures["examples"] / figures["seconds"])
    assert figures["policy"] == "float32"


def test_progress_counts_every_example(trained: Trained, progress: Recorded) -> None:
    assert progress.shown == [("train tiny (float32)", trained.examples)]
    assert sum(progress.counts) == trained.examples
    assert progress.notes[-1] == f"loss {trained.losses[-1]:.3f}"


def test_the_seed_decides_the_losses(tiny_recipe: Any, short_data: TaskData) -> None:
    first, again, other = (
        short(tiny_recipe, short_data, f"seed={seed}").losses for seed in (0, 0, 1)
    )
    assert len(first) == 2
    assert first == pytest.approx(again, rel=1e-5)
    assert first != pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_float32_weights(
    tiny_recipe: Any, short_data: TaskData, policy: Policy
) -> None:
    trained = short(tiny_recipe, short_data, f"precision={policy}", "head.dropout=0")
    assert trained.policy == policy
    assert {variable.dtype for variable in trained.model.trainable_variables} == {tf.float32}
    # Before the first update all precisions have the same weights.
    assert trained.losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert tf_keras.mixed_precision.global_policy().name == "float32"


def test_a_step_that_overflows_in_float16_is_skipped_and_counted(
    task: TextClassification, data: TaskData
) -> None:
    with precision.scope("mixed_float16"):
        model = task.build_model()
    optimizer = tf_keras.mixed_precision.LossScaleOptimizer(
        tf_keras.optimizers.SGD(1.0), initial_scale=2.0**60
    )
    optimizer.build(model.trainable_variables)
    before = [variable.numpy() for variable in model.trainable_variables]
    step = trainer._Step(task, model, optimizer, clip_norm=1.0)
    for count in (1, 2):
        assert np.isfinite(float(step(batch(task, data))))
        assert int(step.skipped) == count
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("clip_norm", [0.01, None])
def test_clipping_bounds_the_update(
    task: TextClassification, data: TaskData, clip_norm: float | None
) -> None:
    """Plain gradient descent with a rate of 1 moves the weights by the gradient itself."""
    model = task.build_model()
    optimizer = tf_keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    before = [tf.identity(variable) for variable in model.trainable_variables]
    trainer._Step(task, model, optimizer, clip_norm)(batch(task, data))
    moved = [now - then for now, then in zip(model.trainable_variables, before, strict=True)]
    norm = float(tf.linalg.global_norm(moved))
    if clip_norm is None:
        assert norm > 0.05
    else:
        assert norm == pytest.approx(clip_norm, rel=1e-3)


def batch(task: TextClassification, data: TaskData) -> dict[str, Any]:
    tensors = task.preprocessor.pad(data.train.ids[:8])
    arrays = {**tensors, "labels": data.train.labels[:8]}
    return {name: tf.constant(values) for name, values in arrays.items()}


def test_a_loss_that_is_not_a_number_stops_training(tiny_recipe: Any, short_data: TaskData) -> None:
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at step 1; lower optimizer\."):
        short(tiny_recipe, short_data, "optimizer.learning_rate=1e38")
