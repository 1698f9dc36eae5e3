"""What a model is for. `base` holds the protocol; each task is one file beside it."""

from __future__ import annotations

from finetune.recipe import Recipe
from finetune.tasks.base import Task


def create(recipe: Recipe) -> Task:
    """The task that a recipe names."""
    from finetune.tasks.text_classification import TextClassification  # noqa: PLC0415

    tasks = {"text-classification": TextClassification}
    return tasks[recipe.task](recipe)
