"""What TensorBoard shows of a training: `tensorboard --logdir runs`; and `logs/curve.jsonl`.

The latter holds what a page without TensorFlow draws: step, loss and rate, or a dev score, a line.
Gradients are measured in the step itself, after they were unscaled and summed over all replicas
and before they are clipped: a callback could not see them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tensorflow as tf

from finetune import optimizer as optimizers
from finetune.recipe import Logging
from finetune.step import Outcome

CURVE = "curve.jsonl"


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
        self._names = _names(model)
        self._optimizer = optimizer
        self._clip_norm = clip_norm
        self._folder = folder
        self._writes = folder is not None
        self._measured: set[int] = set()  # epochs whose gradients were
        self._profiles = False
        self._writer = (
            tf.summary.create_file_writer(str(folder / "logs"))
            if folder
            else tf.summary.create_noop_writer()
        )

    def step(self, number: int, outcome: Outcome) -> None:
        """Writes a row of scalars every so many steps; `number` counts from 1."""
        self._profile(number)
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
        rate = scalars["train/learning_rate"]
        self._note(step=number, loss=float(outcome.loss), learning_rate=rate)
        with self._writer.as_default(step=number):
            for name, value in (scalars | _of_experts(outcome)).items():
                tf.summary.scalar(name, value)
            for name, value in outcome.block_norms.items():
                tf.summary.scalar(f"gradient/norm/{name}", value)

    def wants_gradients(self, epoch: int) -> bool:
        """Whether to measure them now: once in an epoch, and in all processes or in none."""
        return self._settings.histograms and epoch not in self._measured

    def gradients(self, epoch: int, number: int, gradients: Sequence[Any]) -> None:
        """Writes a histogram of each variable's gradient."""
        self._measured.add(epoch)
        with self._writer.as_default(step=number):
            for name, gradient in zip(self._names, gradients, strict=True):
                tf.summary.histogram(f"gradients/{name}", gradient)

    def epoch(self, number: int, score: float) -> None:
        """Writes what is measured once an epoch, after step `number`."""
        self._note(step=number, dev_score=score)
        with self._writer.as_default(step=number):
            tf.summary.scalar("dev/score", score)
            if self._settings.histograms:
                for name, variable in zip(
                    self._names, self._model.trainable_variables, strict=True
                ):
                    tf.summary.histogram(f"weights/{name}", variable)

    def _note(self, **row: float) -> None:
        if self._folder is None:
            return
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)
        with (self._folder / "logs" / CURVE).open("a") as file:
            file.write(f"{json.dumps(row)}\n")

    def _profile(self, number: int) -> None:
        """Profiles from the end of the step before the first to the end of the last."""
        if self._folder is None or self._settings.profile is None:
            return
        first, last = self._settings.profile
        if number == first - 1:
            tf.profiler.experimental.start(str(self._folder / "logs"))
            self._profiles = True
        elif number == last and self._profiles:
            self._stop_profile()

    def _stop_profile(self) -> None:
        tf.profiler.experimental.stop()
        self._profiles = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._profiles:  # training ended before the last step to profile
            self._stop_profile()
        self._writer.close()


def _of_experts(outcome: Outcome) -> dict[str, Any]:
    """Each expert's share of its block's choices, and by how much the busiest exceeds the mean.

    Source:
        Wang et al.: Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts, section
        4.1, MaxVio (arXiv 2408.15664).
    """
    scalars: dict[str, Any] = {}
    for block, shares in outcome.expert_shares.items():
        found = shares.numpy()
        scalars[f"experts/{block}/max_violation"] = found.max() * len(found) - 1
        scalars |= {f"experts/{block}/share/{place}": share for place, share in enumerate(found)}
    return scalars


def _names(model: Any) -> list[str]:
    """Of the trainable variables, each its own: two layers may have a `kernel`."""
    names = [str(variable.name).removesuffix(":0") for variable in model.trainable_variables]
    return [
        name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)
    ]
