"""The training loop, from a recipe to a trained model; what happens in a step is `step`'s.

    epoch ─► batches, in the epoch's own order ─► step ─► step ─► … ─► dev score ─► best kept
                 ▲                                  │
    resumed here └── state: weights, optimizer, position, losses ◄── every few minutes, on a signal

Data order and dropout masks depend on seed, epoch and step alone, so a training that was stopped
anywhere and taken up goes through the same losses as one that never stopped.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tf_keras

from finetune import activation, blocks, checkpoint, head, health, precision, recompute
from finetune import distribution as distributions
from finetune import optimizer as optimizers
from finetune.deepseek import adapter
from finetune.deepseek.experts import MixtureOfExperts
from finetune.deepseek.lora import Adapters
from finetune.distribution import Distribution
from finetune.dropout import DropoutSeed
from finetune.errors import Interrupted, TrainingError
from finetune.progress import Advance, Progress
from finetune.recipe import Recipe
from finetune.state import Position, TrainingState
from finetune.step import Step
from finetune.tasks.base import Task, TaskData
from finetune.watch import Watch

Stop = Callable[[], bool]

_log = logging.getLogger(__name__)


def never() -> bool:
    """A `Stop` that lets the training run to its end."""
    return False


@dataclass(frozen=True)
class Trained:
    """A trained model and how its training went."""

    model: Any
    policy: precision.Policy
    examples: int  # seen, each as often as there were epochs
    steps: int
    skipped_steps: int  # whose gradients overflowed in float16
    compilations: int  # shapes that forward and backward were traced for, in this process
    seconds: float  # of the steps, the first one's compilation included
    examples_per_s: float
    losses: list[float]  # mean loss of each step
    learning_rates: list[float]  # of each step
    dev_scores: list[float]  # after each epoch, see `Result.score`; empty when there is but one
    best_epoch: int  # whose weights the model has, from 1
    expert_shares: dict[str, list[float]]  # of a block's choices in the last epoch, by block
    is_chief: bool  # False on all workers but one: they publish nothing

    def figures(self) -> dict[str, Any]:
        """All but the model, by name."""
        return {name: value for name, value in vars(self).items() if name != "model"}


def train(
    task: Task,
    recipe: Recipe,
    data: TaskData,
    progress: Progress,
    *,
    folder: Path | None = None,
    stop: Stop = never,
    start: Path | None = None,
) -> Trained:
    """Trains the recipe's model on `data.train`.

    Args:
        folder: where the state of an unfinished training lies; one that is there is taken up.
            None keeps none. Several machines must see the same one. The adapter of a low-rank
            adaptation is written there too, in `adapter`.
        stop: asked in each step; when it says so in any process, all of them end after that
            step, with the state saved.
        start: prefix of the weights to start from, such as a SavedModel's `variables`; by
            default those of the base model.

    Raises:
        TrainingError: the loss is not a number, and the last good state stays; or there is
            nothing to resume, and the recipe says that there must be.
        Interrupted: `stop` said so.
        WorkerLost: another process of the training is gone.
    """
    tf_keras.utils.set_random_seed(recipe.seed)
    distribution = distributions.create(recipe.distribution)
    policy = precision.choose(recipe.precision)
    with precision.scope(policy), distribution.watched():
        with progress.timed("build the model", expected_s=4):
            loop = _Loop(
                task, recipe, data, distribution, policy, folder=folder, stop=stop, start=start
            )
        if recipe.checkpoint.resume and not loop.position.losses:
            raise TrainingError(
                f"--resume: there is no unfinished training of this recipe in {folder}; leave it "
                "out to start one"
            )
        return loop.run(progress)


class _Loop:
    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        data: TaskData,
        distribution: Distribution,
        policy: precision.Policy,
        *,
        folder: Path | None,
        stop: Stop,
        start: Path | None,
    ) -> None:
        self.task = task
        self.recipe = recipe
        self.data = data
        self.distribution = distribution
        self.stop = stop
        self.policy = policy
        self.folder = folder
        self.at_random = math.log(task.outcomes)  # once: a language model asks its tokenizer
        self.parts = distribution.replicas * recipe.schedule.micro_batches
        self.adapters: Adapters | None = None
        self.model, self.optimizer, self.step = self._build(start)
        self.state = TrainingState(folder, self.model, self.optimizer, writes=distribution.is_chief)
        self.watch = Watch(
            folder if distribution.is_chief else None,
            recipe.logging,
            self.model,
            self.optimizer,
            clip_norm=recipe.optimizer.clip_norm,
        )
        self.position = self.state.restore() or Position()
        self._check_shared()
        self.saved_at = time.monotonic()
        self.shares: dict[str, Any] = {}  # of the experts of each block, summed over the epoch

    def _build(self, start: Path | None) -> tuple[Any, Any, Step]:
        recipe, schedule = self.recipe, self.recipe.schedule
        if recipe.data.batch_size % self.parts:
            raise TrainingError(
                f"data.batch_size: {recipe.data.batch_size} is no multiple of {self.parts}, the "
                "replicas times schedule.micro_batches; choose another"
            )
        total_steps = sum(self.task.steps(self.data, epoch) for epoch in range(schedule.epochs))
        with self.distribution.scope():
            model = self.task.build_model()
            if start is not None:
                checkpoint.restore(start, model=model)
            if recipe.lora is not None:
                self.adapters = Adapters(model, recipe.lora)
            if recipe.head.alone:
                head.train_alone(model)
            optimizer = optimizers.build(
                recipe.optimizer,
                schedule,
                total_steps,
                self.policy,
                model.trainable_variables,
                blocks.depths(model),
            )
            dropout = DropoutSeed(model, recipe.seed)
            activation.quicken(model)
        if recipe.memory.gradient_checkpointing:
            recompute.checkpoint(model)
        if recipe.memory.xla and self.distribution.replicas > 1:
            _log.warning("memory.xla: left out, since XLA can't compile sums over replicas")
        has_experts = any(isinstance(layer, MixtureOfExperts) for layer in model.submodules)
        if recipe.memory.xla and has_experts:
            _log.warning("memory.xla: left out, since XLA must know how busy each expert will be")
        step = Step(
            self.task,
            model,
            optimizer,
            dropout,
            self.distribution,
            clip_norm=recipe.optimizer.clip_norm,
            micro_batches=schedule.micro_batches,
            fuse=recipe.memory.xla and not has_experts,
            bias_update_speed=recipe.moe.bias_update_speed,
        )
        return model, optimizer, step

    def run(self, progress: Progress) -> Trained:
        schedule, position = self.recipe.schedule, self.position
        an_epoch = len(self.data.train)
        with self.watch:
            while position.epoch < schedule.epochs and not self._is_over():
                title = f"train {self.recipe.name} ({self.policy})"
                if schedule.epochs > 1:
                    title += f", epoch {position.epoch + 1} of {schedule.epochs}"
                with progress.counted(title, an_epoch) as advance:
                    advance(position.examples - position.epoch * an_epoch)
                    self._epoch(advance)
                self._after_epoch(progress)
        if position.best_epoch:
            self.state.restore_best()
        self._merge()
        return Trained(
            model=self.model,
            policy=self.policy,
            examples=position.examples,
            steps=len(position.losses),
            skipped_steps=position.skipped,
            compilations=self.step.compilations,
            seconds=position.seconds,
            examples_per_s=position.examples / position.seconds,
            losses=position.losses,
            learning_rates=position.learning_rates,
            dev_scores=position.dev_scores,
            best_epoch=position.best_epoch or position.epoch,
            expert_shares={
                name: (shares / shares.sum()).tolist() for name, shares in self.shares.items()
            },
            is_chief=self.distribution.is_chief,
        )

    def _epoch(self, advance: Advance) -> None:
        position = self.position
        dataset = self.task.training_batches(self.data, position.epoch, self.parts)
        began = time.monotonic()
        self.shares = {}
        for batch in self.distribution.parts(dataset.skip(position.step)):
            is_due = time.monotonic() - self.saved_at > self.recipe.checkpoint.every_s
            outcome = self.step(batch, len(position.losses), wishes=(self.stop(), is_due))
            loss, finite = float(outcome.loss), bool(outcome.finite)
            self._check(loss, finite, batch)
            position.losses.append(loss)
            position.learning_rates.append(optimizers.learning_rate(self.optimizer))
            position.skipped += not finite
            for name, shares in outcome.expert_shares.items():
                self.shares[name] = self.shares.get(name, 0.0) + shares.numpy()
            position.step += 1
            position.examples += (count := round(float(outcome.examples)))
            position.seconds += (now := time.monotonic()) - began
            began = now
            self.watch.step(len(position.losses), outcome)
            if self.watch.wants_gradients(position.epoch):
                number = len(position.losses)
                gradients = self.step.gradients(batch, number)
                self.watch.gradients(position.epoch, number, gradients)
            advance(count, f"loss {loss:.3f}")
            self._maybe_save(*outcome.wishes.numpy())
        position.epoch += 1
        position.step = 0

    def _after_epoch(self, progress: Progress) -> None:
        position = self.position
        if self.recipe.schedule.epochs == 1:  # nothing to choose from
            return
        result = self.task.measure(
            self.model, self.data.dev, progress=progress, title="test on dev"
        )
        score = self.distribution.mean(result.score)  # all must agree when patience is over
        self.watch.epoch(len(position.losses), score)
        if score > max(position.dev_scores, default=-math.inf):
            position.best_epoch = position.epoch
            self.state.save_best()
        position.dev_scores.append(score)
        self.state.save(position)

    def _merge(self) -> None:
        """Whoever takes the model up from here on, never needs to know of adapters."""
        if self.adapters is None:
            return
        if self.folder is not None and self.distribution.is_chief:
            adapter.save(self.model, self.adapters, self.task.base_name, self.folder / "adapter")
        self.adapters.merge()

    def _is_over(self) -> bool:
        patience, position = self.recipe.schedule.patience, self.position
        return patience is not None and position.epoch - position.best_epoch >= patience

    def _check(self, loss: float, finite: bool, batch: Any) -> None:
        position = self.position
        scales = optimizers.scales(self.optimizer)
        what = health.fault(loss, finite=finite, scales=scales, at_random=self.at_random)
        if what is None:
            return
        kept = self.state.saved_step
        raise TrainingError(
            f"{what} at step {len(position.losses)} (epoch {position.epoch + 1}, batch "
            f"{position.step + 1}), made of "
            f"{health.origin(self.task, self.data.train, batch, self.distribution)}. "
            + (f"The last good state, after step {kept}, is kept. " if kept else "")
            + "Look at these examples; lower optimizer.learning_rate, or use precision=float32"
        )

    def _check_shared(self) -> None:
        """Workers that take up different states would train on as if they were one."""
        here = len(self.position.losses)
        if self.distribution.mean(here) != here:
            raise TrainingError(
                f"runs: this worker finds a state of {here} steps, another one finds another; "
                "give all of them the same folder"
            )

    def _maybe_save(self, stop: float, is_due: float) -> None:
        if stop or is_due:
            self.state.save(self.position)
            self.saved_at = time.monotonic()
        if stop:
            raise Interrupted(
                f"stopped after step {len(self.position.losses)}; run again to go on from there"
            )
