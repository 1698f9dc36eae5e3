"""A whole fine-tuning job, from a recipe to published bundles.

recipe + data ─► train ─► float32 model ─► test accuracy ─► gate ─► models/<name>/<N>/
                   │                                                     │
           runs/<name>/<job>/                     convert ─► gate ─► models/<name>/edge/<N>-*.zip

Each arrow's result is on disk, whole, before the next starts: a job that was killed runs again
and takes up what is there. The same recipe, weights and data never train twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import atomic, integrity
from bundle.manifest import Metric
from bundle.repository import ModelRepository, SavedBundle
from finetune import checkpoint, distribution, precision, state, tasks, trainer
from finetune.errors import GateRefused, LeftToChief
from finetune.export import edge_bundle, saved_model
from finetune.export.candidate import Candidate
from finetune.export.serving_model import ServingModel
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.report import of_task, page
from finetune.tasks.base import Task, TaskData
from finetune.trainer import Stop


@dataclass(frozen=True)
class Outcome:
    """What a job left in the model repository."""

    saved: SavedBundle
    edge: list[Path]
    trained: bool  # False: the version was there already


def run(
    recipe: Recipe,
    *,
    models: Path,
    runs: Path,
    progress: Progress,
    stop: Stop = trainer.never,
    start: SavedBundle | None = None,
) -> Outcome:
    """Trains and publishes what of the recipe's results is not published yet.

    Args:
        models: the model repository.
        runs: where state, weights, logs and the effective recipe of each training lie.
        stop: asked after each step of the training; when it says so, the state is saved.
        start: a version whose weights the training starts from, instead of the base model's.

    Raises:
        DataError: a data file can't be used; nothing was trained.
        ModelError: the base model can't be used.
        TrainingError: training can't go on.
        Interrupted: `stop` said so; running again goes on from there.
        LeftToChief: this process is not the worker that publishes.
        GateRefused: a model is not good enough; what did pass is published.
    """
    return _Job(recipe, models, runs, progress, stop, start).run()


class _Job:
    def __init__(
        self,
        recipe: Recipe,
        models: Path,
        runs: Path,
        progress: Progress,
        stop: Stop,
        start: SavedBundle | None,
    ) -> None:
        self.recipe = recipe
        self.stop = stop
        self.start = None if start is None else start.path / "variables" / "variables"
        self.progress = progress
        self.repository = ModelRepository(models)
        self.task: Task = tasks.create(recipe)
        self.data: TaskData = self.task.load_data()
        self.identity = recipe.identity(_weights_sha256(self.task, start), self.data.sha256)
        self.folder = runs / recipe.name / self.identity[:16]

    def run(self) -> Outcome:
        saved = self._published()
        if saved is not None:
            self._leave_to_chief()
        candidate = None
        trained = saved is None
        if saved is None:
            candidate, metrics = self._train()
            self._check_quality(metrics)
            draft = saved_model.describe(candidate, self.identity, metrics)
            with self.progress.timed("publish", expected_s=10):
                saved = saved_model.publish(self.repository, candidate, draft)
        else:
            self._check_quality(saved.manifest.metrics)
        for profile in self.recipe.edge.profiles:
            path = self.repository.edge_path(self.recipe.name, saved.manifest.version, profile)
            if not edge_bundle.is_current(path, saved, self.recipe):
                candidate = candidate or self._restore(saved)
                edge_bundle.publish(self.repository, saved, candidate, profile, self.progress)
        edge = self.repository.edge_bundles(self.recipe.name, saved.manifest.version)
        return Outcome(saved, edge, trained)

    def _published(self) -> SavedBundle | None:
        saved = self.repository.made_by(self.recipe.name, self.identity)
        if saved is None:
            return None
        return self.repository.load(self.recipe.name, saved.manifest.version)

    def _train(self) -> tuple[Candidate, dict[str, Metric]]:
        folder = self.folder / "trained"
        figures = checkpoint.record(folder)
        if figures is not None:
            self._leave_to_chief()
        else:
            atomic.write_bytes(self.folder / "recipe.yaml", self.recipe.to_yaml().encode())
            trained = trainer.train(
                self.task,
                self.recipe,
                self.data,
                self.progress,
                folder=self.folder,
                stop=self.stop,
                start=self.start,
            )
            self._leave_to_chief()
            figures = trained.figures()
            checkpoint.save(folder, figures, model=trained.model)
            state.discard(self.folder)
        candidate = self._candidate(folder / checkpoint.WEIGHTS)
        if not candidate.result.is_finite:  # no loss came after the last step
            raise GateRefused(
                f"{self.recipe.name}: refused: it answers test examples with what is not a number; "
                "lower optimizer.learning_rate"
            )
        drawn = of_task.report(self.task, self.data, candidate.result, figures)
        page.write(self.folder / page.FILE_NAME, drawn)
        return candidate, self._metrics(candidate, figures)

    def _leave_to_chief(self) -> None:
        if not distribution.is_chief(self.recipe.distribution):
            raise LeftToChief(f"{self.recipe.name}: trained; the chief worker publishes it")

    def _metrics(self, candidate: Candidate, figures: dict[str, Any]) -> dict[str, Metric]:
        data = self.data
        speed = Metric(
            value=figures["examples_per_s"], n=figures["examples"], data_sha256=data.sha256
        )
        return candidate.result.metrics(data.test_sha256) | {"train_examples_per_s": speed}

    def _check_quality(self, metrics: Mapping[str, Metric]) -> None:
        limits, name = self.recipe.evaluation, self.recipe.name
        accuracy, perplexity = metrics.get("accuracy"), metrics.get("perplexity")
        if accuracy is not None and accuracy.value < limits.min_accuracy:
            raise GateRefused(
                f"{name}: refused: test accuracy {accuracy.value:.4f} is under "
                f"evaluation.min_accuracy {limits.min_accuracy} ({accuracy.n} test examples)"
            )
        most = limits.max_perplexity
        if perplexity is not None and most is not None and perplexity.value > most:
            raise GateRefused(
                f"{name}: refused: test perplexity {perplexity.value:.4g} is over "
                f"evaluation.max_perplexity {most} ({perplexity.n} test sequences)"
            )

    def _restore(self, saved: SavedBundle) -> Candidate:
        return self._candidate(saved.path / "variables" / "variables")

    def _candidate(self, weights: Path) -> Candidate:
        with precision.scope("float32"), self.progress.timed("load the model", expected_s=4):
            model = self.task.build_model()
            checkpoint.restore(weights, model=model)
        result = self.task.measure(
            model, self.data.test, progress=self.progress, title="test the model"
        )
        return Candidate(
            recipe=self.recipe,
            task=self.task,
            data=self.data,
            model=ServingModel(self.task, model),
            result=result,
        )


def _weights_sha256(task: Task, start: SavedBundle | None) -> str:
    """Of what a training starts from: a version is known by the training that made it."""
    if start is None:
        return task.base_model_sha256
    made_by = start.manifest.provenance.recipe_sha256
    return integrity.sha256_bytes(f"{task.base_model_sha256} {made_by}".encode())
