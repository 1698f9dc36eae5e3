"""A trained model, ready for export."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.preprocess import Raw
from bundle.repository import SavedBundle
from finetune import checkpoint, precision, tasks
from finetune import recipe as recipes
from finetune.errors import ExportError
from finetune.export.serving_model import ServingModel
from finetune.progress import Progress
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


def of_version(saved: SavedBundle, progress: Progress) -> Candidate:
    """A published version, with the task and data that it was made from.

    Raises:
        FinetuneError: its base model or its data are gone.
        ExportError: its data have changed.
    """
    described = saved.manifest
    title = f"{described.name} version {described.version}"
    recipe = recipes.parse(described.provenance.recipe, origin=title)
    task = tasks.create(recipe)
    data = task.load_data()
    if data.sha256 != described.provenance.data_sha256:
        raise ExportError(
            f"{title}: the data at {recipe.data.train.parent} are not those that it was trained "
            "and tested on; restore them, or train again"
        )
    with precision.scope("float32"), progress.timed("load the model", expected_s=4):
        model = task.build_model()
        checkpoint.restore(saved.path / "variables" / "variables", model=model)
    result = task.measure(model, data.test, progress=progress, title="test the model")
    served = ServingModel(task, model)
    return Candidate(recipe=recipe, task=task, data=data, model=served, result=result)
