"""Whether a training still makes sense, and whose fault it is when it does not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from finetune.distribution import Distribution
from finetune.tasks.base import Task

_BLOWN_UP = 10.0  # times the loss of a model that answers at random
_SHOWN = 3  # examples


def fault(loss: float, *, finite: bool, scales: bool, at_random: float) -> str | None:
    """What is wrong with a step.

    Args:
        finite: whether its gradients are.
        scales: whether overflows are to be met: the step is skipped and the scale lowered.
        at_random: the loss of a model that finds every answer equally likely.
    """
    if not math.isfinite(loss):
        return f"loss is {loss}"
    if not finite and not scales:
        return "gradients are not finite"
    if loss > _BLOWN_UP * at_random:
        return f"loss is {loss:.4g}, {loss / at_random:.0f} times that of answering at random"
    return None


def origin(task: Task, split: Any, batch: Any, distribution: Distribution) -> str:
    """Which examples a batch is made of: those of this process, the first of them by name."""
    places: list[int] = []
    parts = zip(
        distribution.local(batch["places"]), distribution.local(batch["weights"]), strict=True
    )
    for found, weights in parts:
        places += np.asarray(found)[np.asarray(weights) > 0].tolist()
    named = "; ".join(task.origin(split, place) for place in places[:_SHOWN])
    more = f"; and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{task.recipe.data.train}: {named}{more}"
