"""The training loop: one compiled step, read from top to bottom.

batch ─► logits ─► loss ─► (scaled) gradients ─► unscale ─► clip ─► AdamW
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

from finetune import optimizer as optimizers
from finetune import precision
from finetune.data import batches
from finetune.errors import TrainingError
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.tasks.base import Task, TaskData


@dataclass(frozen=True)
class Trained:
    """A trained model and how its training went."""

    model: Any
    policy: precision.Policy
    examples: int  # seen, each as often as there were epochs
    steps: int
    skipped_steps: int  # whose gradients overflowed in float16
    seconds: float  # of the steps, the first one's compilation included
    examples_per_s: float
    losses: list[float]  # mean loss of each step

    def figures(self) -> dict[str, Any]:
        """All but the model, by name."""
        return {name: value for name, value in vars(self).items() if name != "model"}


def train(task: Task, recipe: Recipe, data: TaskData, progress: Progress) -> Trained:
    """Trains the recipe's model on `data.train`.

    Raises:
        TrainingError: the loss is not a number.
    """
    tf_keras.utils.set_random_seed(recipe.seed)
    policy = precision.choose(recipe.precision)
    with precision.scope(policy):
        model = task.build_model()
        dataset = batches.training(
            data.train, task.preprocessor, recipe.data.batch_size, recipe.seed
        )
        epochs = [dataset] * recipe.schedule.epochs
        total_steps = _steps_per_epoch(data, task, recipe) * len(epochs)
        optimizer = optimizers.build(
            recipe.optimizer, recipe.schedule, total_steps, policy, model.trainable_variables
        )
        step = _Step(task, model, optimizer, recipe.optimizer.clip_norm)
        losses: list[float] = []
        start = time.monotonic()
        examples = len(data.train) * len(epochs)
        with progress.counted(f"train {recipe.name} ({policy})", examples) as advance:
            for epoch in epochs:
                for batch in epoch:
                    losses.append(_checked(step(batch), len(losses)))
                    advance(len(batch["labels"]), f"loss {losses[-1]:.3f}")
    seconds = time.monotonic() - start
    return Trained(
        model=model,
        policy=policy,
        examples=examples,
        steps=len(losses),
        skipped_steps=int(step.skipped),
        seconds=seconds,
        examples_per_s=examples / seconds,
        losses=losses,
    )


class _Step:
    """One optimizer step, in two compiled parts.

    The update is fused by XLA: it touches each weight once instead of some ten times, which on a
    CPU with little memory bandwidth took a third of the step. Its shapes never change, so it is
    compiled once; forward and backward see one shape per length bucket and stay outside.
    """

    def __init__(self, task: Task, model: Any, optimizer: Any, clip_norm: float | None) -> None:
        self._task = task
        self._model = model
        self._optimizer = optimizer
        self._clip_norm = clip_norm
        self._differentiate = tf.function(self._gradients, reduce_retracing=True)
        # Loss scaling decides on the host whether to apply a step; XLA can't.
        self._update = tf.function(self._apply, jit_compile=not optimizers.scales(optimizer))
        self.skipped = tf.Variable(0)  # the optimizer counts a skipped step as any other

    def __call__(self, batch: dict[str, Any]) -> Any:
        """Trains on one batch; returns its mean loss, a float32 scalar."""
        loss, gradients = self._differentiate(batch)
        self._update(gradients)
        return loss

    def _gradients(self, batch: dict[str, Any]) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            logits = self._task.logits(self._model, batch, training=True)
            loss = tf.reduce_mean(self._task.loss(logits, batch))
            scaled = optimizers.scale_loss(self._optimizer, loss)
        gradients = tape.gradient(scaled, self._model.trainable_variables)
        return loss, optimizers.unscale(self._optimizer, gradients)

    def _apply(self, gradients: list[Any]) -> None:
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        self._optimizer.apply_gradients(
            zip(gradients, self._model.trainable_variables, strict=True)
        )
        if optimizers.scales(self._optimizer):
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in gradients])
            self.skipped.assign_add(tf.cast(~finite, tf.int32))


def _steps_per_epoch(data: TaskData, task: Task, recipe: Recipe) -> int:
    counts: dict[int, int] = {}
    for ids in data.train.ids:
        bucket = task.preprocessor.bucket(len(ids))
        counts[bucket] = counts.get(bucket, 0) + 1
    return sum(math.ceil(count / recipe.data.batch_size) for count in counts.values())


def _checked(loss: Any, step: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise TrainingError(
            f"loss is {value} at step {step}; lower optimizer.learning_rate, "
            "or use precision=float32"
        )
    return value
