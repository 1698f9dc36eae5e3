"""Laws of a refresh: a better model is published, a worse one is not, the same data make no second
version, and a run that was killed anywhere goes on to the same end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle import integrity
from bundle.repository import ModelRepository
from finetune import pipeline
from finetune.data import jsonl
from finetune.errors import LeaseHeld, RefreshError
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.refresh import contest, folder, job, page, promote
from finetune.refresh.folder import RefreshFolder, Report
from finetune.refresh.lease import Lease
from finetune.refresh.settings import Checks


class Killed(BaseException):
    """Nothing of ours catches it."""


@pytest.fixture
def models(champion: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(champion.models, tmp_path / "models"))


def refresh(recipe: Recipe, models: Path) -> Report:
    return job.run(recipe, models=models, progress=Silent())


def arrive(recipe: Recipe, name: str, rows: list[tuple[str, str]]) -> None:
    assert recipe.refresh is not None
    assert recipe.refresh.data is not None
    jsonl.write(recipe.refresh.data / name, rows)


def test_without_new_data_nothing_is_done(recipe: Recipe, models: Path) -> None:
    before = integrity.digest_folder(models)
    report = refresh(recipe, models)
    assert (report.verdict, report.champion) == ("nothing new", 1)
    assert integrity.digest_folder(models) | {"tiny/refresh/.lock": ""} == before | {
        "tiny/refresh/.lock": ""
    }


def test_a_better_model_is_published_once(recipe: Recipe, models: Path, champion: Any) -> None:
    arrive(recipe, "monday.jsonl", champion.rows)
    report = refresh(recipe, models)
    assert (report.verdict, report.version, report.reasons) == ("published", 2, ())
    assert report.holdout is not None
    assert report.holdout.challenger > report.holdout.champion + 0.1
    assert report.new is not None
    repository = ModelRepository(models)
    saved = repository.load("tiny", 2)  # every file as the manifest says
    assert saved.manifest.provenance.parent_version == 1
    assert [path.name for path in repository.edge_bundles("tiny", 2)] == ["2-float32.zip"]
    (run, told) = RefreshFolder(models, "tiny").reports()[-1]
    assert told == report
    assert {path.name for path in run.path.iterdir()} == {
        "plan.json",
        "report.json",
        "report.html",
        "new",
        "train",
    }
    assert "Version 2 is published" in (run.path / folder.PAGE).read_text()
    again = refresh(recipe, models)
    assert (again.verdict, repository.versions("tiny")) == ("nothing new", [1, 2])


def test_a_worse_model_is_kept_back(recipe: Recipe, models: Path, wrong: Any) -> None:
    limits = Checks(min_examples=10, max_label_shift=1)
    assert recipe.refresh is not None
    lenient = recipe.refresh.model_copy(update={"checks": limits})
    recipe = recipe.model_copy(update={"refresh": lenient})
    arrive(recipe, "monday.jsonl", wrong)
    report = refresh(recipe, models)
    assert (report.verdict, report.version, report.champion) == ("kept", None, 1)
    assert any("limits.max_drop" in reason for reason in report.reasons)
    assert ModelRepository(models).versions("tiny") == [1]
    assert refresh(recipe, models).verdict == "nothing new"


def test_refused_data_are_never_learnt(recipe: Recipe, models: Path, champion: Any) -> None:
    jsonl.write(Path(str(recipe.refresh.data), "broken.jsonl"), champion.rows)  # type: ignore[union-attr]
    with Path(str(recipe.refresh.data), "broken.jsonl").open("a") as file:  # type: ignore[union-attr]
        file.write('{"text": "cut o')
    report = refresh(recipe, models)
    assert report.verdict == "refused"
    assert "broken.jsonl, line" in report.reasons[0]
    ((run, _),) = RefreshFolder(models, "tiny").reports()
    assert not run.new.exists()


KILLED_AT: list[tuple[Any, str]] = [
    (pipeline.trainer, "train"),
    (pipeline.saved_model, "publish"),
    (pipeline.edge_bundle, "publish"),
    (contest.Contest, "compare"),
    (promote, "_copy"),
    (promote, "_copy_edge"),
    (page, "render"),
    (folder.Run, "tidy"),
    (ModelRepository, "outdated"),  # the versions that go
]


def test_killed_at_any_step_it_goes_on_to_the_same_end(
    recipe: Recipe, models: Path, champion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(recipe, "monday.jsonl", champion.rows)
    repository = ModelRepository(models)
    trainings: list[None] = []
    train = pipeline.trainer.train

    def counted(*arguments: Any, **named: Any) -> Any:
        trainings.append(None)
        return train(*arguments, **named)

    monkeypatch.setattr(pipeline.trainer, "train", counted)
    for place, name in KILLED_AT:
        with monkeypatch.context() as patched:
            patched.setattr(place, name, _killed)
            with pytest.raises(Killed):
                refresh(recipe, models)
        for version in repository.versions("tiny"):
            repository.load("tiny", version)  # nothing half-written is visible
    report = refresh(recipe, models)
    assert report.verdict == "nothing new"
    ((_, told),) = RefreshFolder(models, "tiny").reports()
    assert (told.verdict, told.version) == ("published", 2)
    assert repository.versions("tiny") == [1, 2]
    assert len(repository.edge_bundles("tiny", 2)) == 1
    assert len(trainings) == 1
    assert not list((models / ".staging").iterdir())


def _killed(*_: Any, **__: Any) -> Any:
    raise Killed


def test_a_second_job_is_turned_away(recipe: Recipe, models: Path) -> None:
    with Lease(models / "tiny" / "refresh"), pytest.raises(LeaseHeld):
        refresh(recipe, models)


def test_other_labels_are_another_model(recipe: Recipe, models: Path) -> None:
    data = recipe.data.model_copy(update={"labels": ("bad", "good")})
    with pytest.raises(RefreshError, match=r"data\.labels"):
        refresh(recipe.model_copy(update={"data": data}), models)


def test_it_starts_from_the_champion_where_the_recipe_says(
    recipe: Recipe, models: Path, champion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recipe.refresh is not None
    wish = recipe.refresh.model_copy(update={"start": "champion"})
    recipe = recipe.model_copy(update={"refresh": wish})
    arrive(recipe, "monday.jsonl", champion.rows)
    started: list[Path] = []

    def observed(*arguments: Any, start: Path, **named: Any) -> Any:
        started.append(start)
        return train(*arguments, start=start, **named)

    train: Callable[..., Any] = pipeline.trainer.train
    monkeypatch.setattr(pipeline.trainer, "train", observed)
    report = refresh(recipe, models)
    assert report.verdict == "published"
    assert started == [models / "tiny" / "1" / "variables" / "variables"]
