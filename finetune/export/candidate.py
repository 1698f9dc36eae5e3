"""A trained model, ready for export."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.preprocess import Raw
from finetune.export.serving_model import ServingModel
from finetune.recipe import Recipe
from finetune.tasks.base import Result, Task, TaskData


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What every export needs to know of a trained model.

    Args:
        model: float32, whatever precision it was trained in.
        result: of the test split.
    """

    recipe: Recipe
    task: Task
    data: TaskData
    model: ServingModel
    result: Result

    def golden_inputs(self, count: int = 8) -> list[Raw]:
        """Test examples that a bundle should be checked with."""
        test = self.data.test
        return [self.task.raw(test, place) for place in self.task.golden_places(test, count)]
