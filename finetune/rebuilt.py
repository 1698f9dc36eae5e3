"""A trained model, made again from its recipe and weights, and tested."""

from __future__ import annotations

from pathlib import Path

from finetune import checkpoint, precision, tasks
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.tasks.base import Result


class Rebuilt:
    """A model's task and data.

    Args:
        data: what to test on instead of the recipe's test split.

    Raises:
        FinetuneError: the base model or the data can't be used.
    """

    def __init__(self, recipe: Recipe, data: Path | None = None) -> None:
        if data is not None:
            recipe = _tested_on(recipe, data)
        self.task = tasks.create(recipe)
        self.data = self.task.load_data()
        self.job = recipe.identity(self.task.base_model_sha256, self.data.sha256)

    def measure(self, weights: Path, progress: Progress) -> Result:
        """What the model with these weights does on the test split, in float32.

        Args:
            weights: prefix of a checkpoint, or of a SavedModel's `variables`.

        Raises:
            TrainingError: the weights are damaged, or of another model.
        """
        with precision.scope("float32"), progress.timed("load the model", expected_s=4):
            model = self.task.build_model()
            checkpoint.restore(weights, model=model)
        return self.task.measure(model, self.data.test, progress=progress, title="test the model")


def _tested_on(recipe: Recipe, data: Path) -> Recipe:
    """The recipe with other data: its own training split is read only where it must be.

    A tokenizer from scratch is learnt from the training texts.
    """
    splits = ("test",) if recipe.scratch else ("train", "dev", "test")
    settings = recipe.data.model_copy(update=dict.fromkeys(splits, data))
    return recipe.model_copy(update={"data": settings})
