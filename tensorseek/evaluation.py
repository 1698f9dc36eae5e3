"""Any model that Tensorseek made, measured on data.

runs/<name>/<job>             ─► rebuilt from its weights ─┐
models/<name>/<N>, or a name  ─► SavedModel ───────────────┼─► answers ─► figures
models/<name>/edge/*.zip      ─► the device's runtime ─────┘

A language model is always rebuilt: what it serves tells of a text's last token only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bundle import preprocess
from bundle.errors import RepositoryError
from bundle.manifest import Manifest
from bundle.preprocess import Preprocessor
from bundle.repository import EXTRA, ModelRepository, SavedBundle
from finetune import labelled
from finetune.data import source
from finetune.errors import DataError, EvaluationError
from finetune.labelled import Labelled
from finetune.metrics import classification, worst
from finetune.metrics.classification import ClassificationResult
from finetune.metrics.language import LanguageResult
from finetune.metrics.worst import HardSequence, WrongAnswer
from finetune.progress import Progress
from finetune.report.run_report import RunReport, Training

if TYPE_CHECKING:  # TensorFlow, which an edge bundle does without
    from finetune.rebuilt import Rebuilt

Kind = Literal["run", "savedmodel", "edge"]
Answer = Callable[[Labelled, Progress], NDArray[np.float32]]  # logits [N, C] of N examples


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a model's answers to a data set are worth."""

    data: Path
    data_sha256: str
    result: ClassificationResult | LanguageResult
    worst: tuple[WrongAnswer, ...] | tuple[HardSequence, ...]
    training: Training | None = None  # how the model was trained, where that is known


Measure = Callable[[Path | None, Progress], Measured]  # None: the split it was tested on


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that can be measured."""

    kind: Kind
    title: str
    recipe: Mapping[str, Any]  # the effective one
    versions: Mapping[str, str]
    measure: Measure

    def report(self, measured: Measured, recipe: str) -> RunReport:
        """All of it for a `report.html`; `recipe` is the effective one as YAML."""
        return RunReport(
            title=self.title,
            recipe=recipe,
            data=str(measured.data),
            result=measured.result,
            worst=measured.worst,
            versions=self.versions,
            training=measured.training,
        )


def find(target: str, models: Path, progress: Progress) -> Subject:
    """Opens what the target names.

    Args:
        target: a run's folder, a version's folder, an edge bundle, or a model's name.
        models: the model repository that a name is looked up in.

    Raises:
        EvaluationError: it is none of these.
        BundleError: the bundle is damaged.
        FinetuneError: the run can't be used.
        EdgeError: the device's runtime can't run the bundle.
    """
    path = Path(target)
    if path.is_file():
        return _edge(path)
    if (path / "recipe.yaml").is_file():
        return _run(path)
    if (path / EXTRA).is_dir() and path.resolve().name.isdigit():
        path = path.resolve()
        saved = ModelRepository(path.parents[1]).load(path.parent.name, int(path.name))
        return _saved(saved, progress)
    try:
        return _saved(ModelRepository(models).load(target), progress)
    except RepositoryError as error:
        raise EvaluationError(
            f"{target}: is no run's folder, version's folder or edge bundle, and {error}"
        ) from error


def evaluate(subject: Subject, data: Path | None, progress: Progress) -> Measured:
    """Asks a model about every example of a data set.

    Args:
        data: by default the test split that the model was made with.

    Raises:
        EvaluationError: that split is gone or has changed, or an answer is not a number.
        DataError: the data can't be used.
    """
    try:
        return subject.measure(data, progress)
    except DataError as error:
        if data is not None:
            raise
        raise EvaluationError(f"the test split can't be used: {error} Or give --data.") from error


def _run(folder: Path) -> Subject:
    from finetune import checkpoint  # noqa: PLC0415 (TensorFlow)
    from finetune import recipe as recipes  # noqa: PLC0415
    from finetune.rebuilt import Rebuilt  # noqa: PLC0415
    from finetune.report import of_task  # noqa: PLC0415

    recipe = recipes.load(folder / "recipe.yaml")
    figures = checkpoint.record(folder / "trained")
    if figures is None:
        raise EvaluationError(f"{folder}: its training has not ended; go on with tensorseek train")
    job = folder.resolve().name
    title = f"{recipe.name}, run {job}"
    weights = folder / "trained" / checkpoint.WEIGHTS

    def measure(data: Path | None, progress: Progress) -> Measured:
        rebuilt = Rebuilt(recipe, data)
        if data is None and rebuilt.job[:16] != job:
            raise _changed(recipe.data.test, title)
        measured = _tested(rebuilt, weights, progress)
        return replace(measured, training=of_task.training(recipe.task, figures))

    return Subject(
        kind="run",
        title=title,
        recipe=recipe.model_dump(mode="json"),
        versions=of_task.versions(),
        measure=measure,
    )


def _saved(saved: SavedBundle, progress: Progress) -> Subject:
    manifest = saved.manifest
    if manifest.task == "text-generation":
        return _published(manifest, "savedmodel", _language_model(saved))
    from finetune import answers  # noqa: PLC0415 (TensorFlow)

    preprocessor = preprocess.create(manifest.preprocess, saved.read)
    with progress.timed("load the model", expected_s=4):
        forward = answers.forward(saved)

    def answer(data: Labelled, progress: Progress) -> NDArray[np.float32]:
        return answers.logits(forward, preprocessor, data, progress)

    return _published(manifest, "savedmodel", _classifier(manifest, preprocessor, answer))


def _language_model(saved: SavedBundle) -> Measure:
    from finetune import recipe as recipes  # noqa: PLC0415 (TensorFlow)
    from finetune.rebuilt import Rebuilt  # noqa: PLC0415

    manifest = saved.manifest
    recipe = recipes.parse(manifest.provenance.recipe, str(saved.path))

    def measure(data: Path | None, progress: Progress) -> Measured:
        rebuilt = Rebuilt(recipe, data)
        if data is None and rebuilt.data.test_sha256 != manifest.metrics["perplexity"].data_sha256:
            raise _changed(recipe.data.test, _title(manifest))
        return _tested(rebuilt, saved.path / "variables" / "variables", progress)

    return measure


def _edge(path: Path) -> Subject:
    from edge import package, runtime  # noqa: PLC0415
    from edge.runner import EdgeRunner  # noqa: PLC0415

    opened = package.read(path)
    if opened.manifest.generation is not None:
        raise EvaluationError(f"{path}: is a language model; its figures are in its manifest")
    runner = EdgeRunner(opened, runtime.find())

    def answer(data: Labelled, progress: Progress) -> NDArray[np.float32]:
        rows = []
        with progress.counted("test the edge model", len(data)) as advance:
            for index in range(len(data)):
                rows.append(runner.logits(data.raw(index)))
                advance()
        return np.stack(rows)

    manifest = opened.manifest
    return _published(manifest, "edge", _classifier(manifest, opened.preprocessor, answer))


def _published(manifest: Manifest, kind: Kind, measure: Measure) -> Subject:
    provenance = manifest.provenance
    return Subject(
        kind=kind,
        title=_title(manifest),
        recipe=provenance.recipe,
        versions=provenance.packages,
        measure=measure,
    )


def _classifier(manifest: Manifest, preprocessor: Preprocessor, answer: Answer) -> Measure:
    settings, labels = manifest.provenance.recipe["data"], manifest.labels

    def measure(data: Path | None, progress: Progress) -> Measured:
        path = data or Path(settings["test"])
        sha256 = source.sha256(path)
        if data is None and sha256 != manifest.metrics["accuracy"].data_sha256:
            raise _changed(path, _title(manifest))
        examples = labelled.read(path, labels, preprocessor, settings)
        logits = answer(examples, progress)
        return Measured(
            data=path,
            data_sha256=sha256,
            result=classification.measure(logits, examples.labels, labels),
            worst=worst.wrong_answers(logits, examples.labels, labels, examples.show),
        )

    return measure


def _tested(rebuilt: Rebuilt, weights: Path, progress: Progress) -> Measured:
    from finetune.report import of_task  # noqa: PLC0415 (TensorFlow)

    task, data = rebuilt.task, rebuilt.data
    result = rebuilt.measure(weights, progress)
    return Measured(
        data=task.recipe.data.test,
        data_sha256=data.test_sha256,
        result=result.details(),
        worst=of_task.worst_examples(task, data.test, result),
    )


def _title(manifest: Manifest) -> str:
    profile = f", {manifest.edge.profile}" if manifest.edge else ""
    return f"{manifest.name} version {manifest.version}{profile}"


def _changed(path: Path, title: str) -> EvaluationError:
    return EvaluationError(
        f"{path}: is not what {title} was made with: its content has changed. Restore it, or name "
        "what to test on with --data."
    )
