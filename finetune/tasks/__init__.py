"""What a model is for. `base` holds the protocol; each task is one file beside it."""

from __future__ import annotations

from finetune.recipe import Recipe
from finetune.tasks.base import Task


def create(recipe: Recipe) -> Task:
    """The task that a recipe names."""
    from finetune.tasks.image_classification import ImageClassification  # noqa: PLC0415
    from finetune.tasks.text_classification import TextClassification  # noqa: PLC0415
    from finetune.tasks.text_generation import TextGeneration  # noqa: PLC0415

    tasks: dict[str, type[Task]] = {
        "text-classification": TextClassification,
        "image-classification": ImageClassification,
        "text-generation": TextGeneration,
    }
    return tasks[recipe.task](recipe)  # type: ignore[call-arg]  # a protocol has no __init__
