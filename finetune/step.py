"""One optimizer step, whatever it is spread over.

    global batch ─► replicas ─► micro-batches ─► Σ loss, Σ gradients, n
                                                        │ summed over all of them
       unscale ◄─ / n ◄──────────────────────────────────┘
          └─► log ─► clip ─► AdamW

`n` counts examples (or tokens) with weight over all micro-batches and replicas, so that splitting a
batch changes nothing but the memory it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from finetune import blocks
from finetune import optimizer as optimizers
from finetune.deepseek.balance import Balance
from finetune.distribution import Distribution, fold
from finetune.dropout import DropoutSeed
from finetune.tasks.base import Task

# Losses, n, examples, the experts' loads, and the gradients of the summed loss.
_Sums = tuple[Any, Any, Any, list[Any], list[Any]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step tells of itself: float32 scalars, the same on every replica."""

    loss: Any  # mean over n
    examples: Any  # with weight, in the whole batch
    gradient_norm: Any  # global, after unscaling and summing, before clipping
    finite: Any  # 1.0, or 0.0 when a gradient is not
    block_norms: dict[str, Any]  # the same norm, of each block of the model alone
    expert_shares: dict[str, Any]  # [E]: of each expert in the choices of its block's router
    wishes: Any  # [W]: of each wish, on how many replicas it was uttered


class Step:
    """Trains a model on one global batch a call.

    The update is fused by XLA where one device allows it: it touches each weight once instead of
    some ten times, which on a CPU with little memory bandwidth took a third of the step. Its
    shapes never change, so it is compiled once; forward and backward see one shape a length
    bucket, and are fused only when the recipe says so.

    Args:
        micro_batches: each replica's part is computed in so many pieces, one after the other.
        fuse: compile forward and backward with XLA too.
        bias_update_speed: of the experts' routers, see `deepseek.balance`.
    """

    def __init__(  # noqa: PLR0913 (as many as a step has parts)
        self,
        task: Task,
        model: Any,
        optimizer: Any,
        dropout: DropoutSeed,
        distribution: Distribution,
        *,
        clip_norm: float | None,
        micro_batches: int = 1,
        fuse: bool = False,
        bias_update_speed: float = 0.0,
    ) -> None:
        self._task = task
        self._model = model
        self._optimizer = optimizer
        self._dropout = dropout
        self._distribution = distribution
        self._clip_norm = clip_norm
        self._micro_batches = micro_batches
        self._blocks = blocks.members(model)
        self._balance = Balance(model, bias_update_speed)
        alone = distribution.replicas == 1
        # Loss scaling decides on the host whether to apply a step; XLA can't.
        fuse_update = alone and not optimizers.scales(optimizer)
        self._differentiate = tf.function(
            self._sum_gradients, reduce_retracing=True, jit_compile=fuse and alone
        )
        self._update = tf.function(self._apply, jit_compile=fuse_update)
        self._spread = tf.function(self._on_all, reduce_retracing=True)
        self._measure = tf.function(self._gradients_of_all, reduce_retracing=True)

    def __call__(self, batch: Any, number: int, wishes: Sequence[bool] = ()) -> Outcome:
        """Trains on one batch.

        Args:
            batch: an element of `Distribution.parts`.
            number: of the step, from 0: it decides the dropout masks.
            wishes: [W], of this process, such as to stop. All processes learn of them in the
                same step, with the gradients, so that none acts on them alone.
        """
        index, asked = tf.constant(number), tf.cast(wishes, tf.float32)
        if self._distribution.replicas == 1:
            return Outcome(**self._update(self._differentiate(batch, index), asked))
        return Outcome(**self._spread(batch, index, asked))

    def gradients(self, batch: Any, number: int) -> list[Any]:
        """The mean gradients of a batch, as the update would meet them before it clips them.

        Args: see `__call__`.
        """
        mean: list[Any] = self._measure(batch, tf.constant(number))
        return mean

    @property
    def compilations(self) -> int:
        """How many shapes forward and backward were traced for (with XLA: compiled for)."""
        function = self._differentiate if self._distribution.replicas == 1 else self._spread
        return int(function.experimental_get_tracing_count())

    def _on_all(self, batch: Any, number: Any, wishes: Any) -> dict[str, Any]:
        outcome = self._distribution.run(self._on_one, batch, number, wishes)
        same: dict[str, Any] = tf.nest.map_structure(self._distribution.first, outcome)
        return same

    def _on_one(self, batch: Any, number: Any, wishes: Any) -> dict[str, Any]:
        return self._apply(self._sum_gradients(batch, number), wishes)

    def _gradients_of_all(self, batch: Any, number: Any) -> list[Any]:
        def on_one(batch: Any, number: Any) -> list[Any]:
            return self._mean(self._sum_gradients(batch, number), tf.zeros([0]))[-1]

        found = self._distribution.run(on_one, batch, number)
        return [self._distribution.first(gradient) for gradient in found]

    def _sum_gradients(self, batch: Any, number: Any) -> _Sums:
        """Of a replica's part."""
        pieces = self._micro_batches
        replica = number * self._distribution.replicas + self._distribution.replica()
        first = replica * pieces  # of the whole training's micro-batches
        if pieces == 1:
            self._dropout.set(first)
            return self._micro_batch(batch)
        folded = tf.nest.map_structure(lambda x: fold(x, pieces), batch)
        zeros = [tf.zeros_like(variable) for variable in self._model.trainable_variables]
        nothing = tf.constant(0.0)
        sums: _Sums = (nothing, nothing, nothing, self._balance.none(), zeros)
        for piece in tf.range(pieces):
            self._dropout.set(first + piece)
            micro = tf.nest.map_structure(lambda x: x[piece], folded)  # noqa: B023 (called at once)
            sums = tf.nest.map_structure(tf.add, sums, self._micro_batch(micro))
        return sums

    def _micro_batch(self, batch: Any) -> _Sums:
        with tf.GradientTape() as tape:
            with self._balance.observed():
                logits = self._task.logits(self._model, batch, training=True)
            weights = self._task.weights(batch)
            total = tf.reduce_sum(self._task.loss(logits, batch) * weights)
            count = tf.reduce_sum(weights)
            # Of the mean: a sum would leave float16's range long before.
            n = tf.maximum(count, 1.0)
            scaled = optimizers.scale_loss(self._optimizer, total / n)
        gradients = tape.gradient(scaled, self._model.trainable_variables)
        unscaled = optimizers.unscale(self._optimizer, gradients)
        examples = tf.reduce_sum(batch["weights"])
        loads = self._balance.loads(batch)
        return total, count, examples, loads, [gradient * n for gradient in unscaled]

    def _mean(self, sums: _Sums, wishes: Any) -> tuple[Any, Any, Any, list[Any], list[Any]]:
        """Over all replicas: wishes, loss, examples, loads, gradients."""
        wishes, *flat = self._distribution.sum([wishes, *tf.nest.flatten(sums)])
        total, count, examples, loads, gradients = tf.nest.pack_sequence_as(sums, flat)
        # Multiplied, not divided: XLA makes products again for each use, but keeps quotients.
        share = 1.0 / tf.maximum(count, 1.0)
        return wishes, total * share, examples, loads, [each * share for each in gradients]

    def _apply(self, sums: _Sums, wishes: Any) -> dict[str, Any]:
        wishes, loss, examples, loads, gradients = self._mean(sums, wishes)
        norm = tf.linalg.global_norm(gradients)
        block_norms = {
            name: tf.linalg.global_norm([gradients[index] for index in members])
            for name, members in self._blocks.items()
        }
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        self._optimizer.apply_gradients(
            zip(gradients, self._model.trainable_variables, strict=True),
            skip_gradients_aggregation=True,
        )
        self._balance.update(loads)
        finite = tf.cast(tf.math.is_finite(norm), tf.float32)
        return {
            "loss": loss,
            "examples": examples,
            "gradient_norm": norm,
            "finite": finite,
            "block_norms": block_norms,
            "expert_shares": {
                name: load / tf.maximum(tf.reduce_sum(load), 1.0)
                for name, load in zip(self._balance.names, loads, strict=True)
            },
            "wishes": wishes,
        }
