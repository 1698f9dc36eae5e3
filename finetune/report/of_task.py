"""The report of a training, from what its task, data and test say."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from bundle import manifest
from finetune.evaluate import Classified, Modelled
from finetune.metrics import worst
from finetune.metrics.worst import HardSequence, Shown, WrongAnswer
from finetune.report import thumbnail
from finetune.report.run_report import RunReport, Training
from finetune.tasks.base import Result, Task, TaskData

_PACKAGES = ("numpy", "tensorflow", "tf-keras", "tokenizers", "transformers")


def report(task: Task, data: TaskData, result: Result, figures: Mapping[str, Any]) -> RunReport:
    """What the report of a training holds.

    Args:
        result: of the trained model on `data.test`.
        figures: of `trainer.Trained.figures`.
    """
    recipe = task.recipe
    return RunReport(
        title=recipe.name,
        recipe=recipe.to_yaml(),
        data=str(recipe.data.test),
        result=result.details(),
        worst=worst_examples(task, data.test, result),
        versions=versions(),
        training=training(recipe.task, figures),
    )


def worst_examples(
    task: Task, split: Any, result: Result
) -> tuple[WrongAnswer, ...] | tuple[HardSequence, ...]:
    """The examples of a split that the result got most wrong."""

    def show(place: int) -> Shown:
        return thumbnail.show(task.raw(split, place), task.origin(split, place))

    match result:
        case Classified():
            return worst.wrong_answers(result.logits, result.labels, result.names, show)
        case Modelled():
            return worst.hard_sequences(result.nll, result.tokens, show)
        case _:
            raise TypeError(f"a {type(result).__name__} has no worst examples")


def training(task: manifest.Task, figures: Mapping[str, Any]) -> Training:
    """How a training of the task went, whose record is `figures`."""
    spoken = task == "text-generation"
    return Training.of(figures, "log-likelihood of a token, nats" if spoken else "accuracy")


def versions() -> dict[str, str]:
    """Of the packages that decide on the figures."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
