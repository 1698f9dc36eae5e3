"""What every tab of the page needs, and what the model repository holds for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from bundle.errors import BundleError
from bundle.manifest import Task
from bundle.repository import ModelRepository
from tensorseek.demo.answers import Cloud, Edge


@dataclass(frozen=True)
class Holdings:
    """The models that are published, by task."""

    by_task: dict[Task, list[str]] = field(default_factory=dict)

    def of(self, *tasks: Task) -> list[str]:
        """The names of the models of these tasks, sorted; of all tasks without any."""
        wanted = tasks or tuple(self.by_task)
        return sorted(name for task in wanted for name in self.by_task.get(task, ()))


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where answers come from."""

    cloud: Cloud
    edge: Edge
    repository: ModelRepository
    runs: Path

    def holdings(self) -> Holdings:
        """What is published now; a model that is broken is left out until it is mended."""
        found: dict[Task, list[str]] = {}
        for name in self.repository.names():
            try:
                task = self.repository.load(name, verify=False).manifest.task
            except BundleError:  # the models' tab tells of it
                continue
            found.setdefault(task, []).append(name)
        return Holdings(found)


@dataclass(frozen=True)
class Watched:
    """Components that follow what is published.

    Args:
        outputs: the components.
        update: holdings and the components' present values → their new ones.
    """

    outputs: Sequence[Any]
    update: Callable[..., Sequence[Any]]


def choice(names: Sequence[str], chosen: str | None) -> Any:
    """A dropdown over names that keeps its choice while it lasts."""
    value = chosen if chosen in names else next(iter(names), None)
    return gr.Dropdown(choices=list(names), value=value)
