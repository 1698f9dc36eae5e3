"""A trained model, ready for export."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.export.serving_model import ServingModel
from finetune.recipe import Recipe
from finetune.tasks.base import Task, TaskData


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What every export needs to know of a trained model.

    Args:
        model: float32, whatever precision it was trained in.
        test_logits: its answers [N, C] to the test split.
    """

    recipe: Recipe
    task: Task
    data: TaskData
    model: ServingModel
    test_logits: NDArray[np.float32]

    def golden_texts(self, count: int = 8) -> list[str]:
        """Test sentences of evenly spread lengths, shortest and longest included."""
        ids, texts = self.data.test.ids, self.data.test_texts
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        picks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
        return [texts[order[pick]] for pick in picks]
