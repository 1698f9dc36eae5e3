"""What TensorBoard shows of a training: `tensorboard --logdir runs`.

Gradients are measured in the step itself, after they were unscaled and summed over all replicas
and before they are clipped: a callback could not see them.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from finetune import optimizer as optimizers
from finetune.recipe import Logging
from finetune.step import Outcome


class Watch:
    """Writes event files; without a folder, nothing.

    Args:
        folder: of the run; the files go into its `logs`.
        clip_norm: the limit of the global norm, for the share that clipping leaves.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: Logging,
        model: Any,
        optimizer: Any,
        *,
        clip_norm: float | None,
    ) -> None:
        self._settings = settings
        self._model = model
        self._optimizer = optimizer
        self._clip_norm = clip_norm
        self._writes = folder is not None
        self._writer = (
            tf.summary.create_file_writer(str(folder / "logs"))
            if folder
            else tf.summary.create_noop_writer()
        )

    def step(self, number: int, outcome: Outcome) -> None:
        """Writes a row of scalars every so many steps; `number` counts from 1."""
        if not self._writes or number % self._settings.every:
            return
        norm = float(outcome.gradient_norm)
        clipped = 1.0 if self._clip_norm is None else min(1.0, self._clip_norm / max(norm, 1e-30))
        scalars = {
            "train/loss": outcome.loss,
            "train/learning_rate": optimizers.learning_rate(self._optimizer),
            "gradient/global_norm": norm,
            "gradient/clip_ratio": clipped,
            "gradient/finite": outcome.finite,
        }
        if optimizers.scales(self._optimizer):
            scalars["gradient/loss_scale"] = self._optimizer.loss_scale
        with self._writer.as_default(step=number):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
            for name, value in outcome.block_norms.items():
                tf.summary.scalar(f"gradient/norm/{name}", value)

    def epoch(self, number: int, score: float) -> None:
        """Writes what is measured once an epoch, after step `number`."""
        with self._writer.as_default(step=number):
            tf.summary.scalar("dev/score", score)
            if self._settings.histograms:
                for variable in self._model.trainable_variables:
                    tf.summary.histogram(f"weights/{variable.name}", variable)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
