"""Laws of a refresh: a better model is published, a worse one is not, the same data make no second
version, and a run that is killed by SIGKILL, at whatever step, leaves nothing half-written and goes
on to the same end without training again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle import integrity
from bundle.repository import ModelRepository
from finetune.data import jsonl
from finetune.errors import LeaseHeld, RefreshError
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.refresh import folder, job
from finetune.refresh.folder import RefreshFolder, Report
from finetune.refresh.lease import Lease
from finetune.refresh.settings import Checks


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


def test_a_second_job_is_turned_away(recipe: Recipe, models: Path) -> None:
    with Lease(models / "tiny" / "refresh"), pytest.raises(LeaseHeld):
        refresh(recipe, models)


def test_other_labels_are_another_model(recipe: Recipe, models: Path) -> None:
    data = recipe.data.model_copy(update={"labels": ("bad", "good")})
    with pytest.raises(RefreshError, match=r"data\.labels"):
        refresh(recipe.model_copy(update={"data": data}), models)


# Imports everything once, then forks a refresh for each point, which dies there by SIGKILL, from
# its progress or from where it asks for the named thing; each one later:
#
#     in training ✗   trained ✗   published, no edge bundle ✗   no report ✗   done
#
# A training puts down for which point it trained.
_RUNS = """
import contextlib, os, sys
from pathlib import Path
import tensorflow as tf
from transformers import TFAutoModelForSequenceClassification
from finetune import recipe, trainer
from finetune.progress import Silent
from finetune.refresh import job, page, promote

def kill(*_args, **_kwargs): os.kill(os.getpid(), 9)

class Deadly(Silent):
    def __init__(self, point): self.point = point
    @contextlib.contextmanager
    def counted(self, title, total):
        if title.startswith("train "):
            with (folder / "trainings.txt").open("a") as file: file.write(self.point + "\\n")
        yield kill if (self.point, title[:6]) == ("training", "train ") else lambda *_, **__: None
    @contextlib.contextmanager
    def timed(self, title, expected_s):
        if (self.point, title) == ("trained", "load both models"): kill()
        yield

folder = Path(sys.argv[1])
settings = recipe.load(folder / "recipe.yaml")
for line in sys.stdin:
    point = line.strip()
    child = os.fork()
    if child == 0:
        if point == "edge": promote._copy_edge = kill
        if point == "report": page.render = kill
        job.run(settings, models=folder / "models", progress=Deadly(point))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
POINTS = ("training", "trained", "edge", "report", "none")


@dataclass(frozen=True)
class Left:
    """What a run left behind."""

    code: int
    versions: list[int]
    edge: list[str]
    reports: list[str]  # their verdicts


@pytest.fixture(scope="module")
def killed(champion: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed-refresh")
    shutil.copytree(champion.models, folder / "models")
    content = yaml.safe_load(champion.recipe.to_yaml())
    content["refresh"] = {"data": str(folder / "new"), "checks": {"min_examples": 10}}
    content["schedule"]["epochs"] = 3
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    (folder / "new").mkdir()
    jsonl.write(folder / "new" / "monday.jsonl", champion.rows)
    return folder


@pytest.fixture(scope="module")
def story(killed: Path) -> dict[str, Left]:
    """Each point of death, in order, with what was there after it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, "-c", _RUNS, str(killed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as runs:
        return {point: _die(runs, killed, point) for point in POINTS}


def _die(runs: subprocess.Popen[str], folder: Path, point: str) -> Left:
    assert runs.stdin is not None
    assert runs.stdout is not None
    print(point, file=runs.stdin, flush=True)
    code = int(runs.stdout.readline())
    # A dead holder's lease goes by itself, after two minutes that no test waits for.
    (folder / "models" / "tiny" / "refresh" / "lease.json").unlink(missing_ok=True)
    repository = ModelRepository(folder / "models")
    for version in repository.versions("tiny"):
        repository.load("tiny", version)  # verifies every file
    reports = RefreshFolder(folder / "models", "tiny").reports()
    return Left(
        code=code,
        versions=repository.versions("tiny"),
        edge=[path.name for path in repository.edge_bundles("tiny", 2)],
        reports=[report.verdict for _, report in reports],
    )


def test_every_run_but_the_last_was_killed(story: dict[str, Left]) -> None:
    assert [left.code for left in story.values()] == [*[-signal.SIGKILL] * (len(POINTS) - 1), 0]


def test_until_the_rename_only_the_champion_is_there(story: dict[str, Left]) -> None:
    for point in ("training", "trained"):
        assert (story[point].versions, story[point].reports) == ([1], []), point


def test_after_the_rename_there_is_one_version_more_however_often_it_is_killed(
    story: dict[str, Left],
) -> None:
    assert (story["edge"].versions, story["edge"].edge) == ([1, 2], [])
    assert (story["report"].versions, story["report"].edge) == ([1, 2], ["2-float32.zip"])
    assert story["report"].reports == []


def test_the_last_run_ends_it_and_nothing_is_left_over(
    story: dict[str, Left], killed: Path
) -> None:
    assert story["none"].reports == ["published"]
    assert (story["none"].versions, story["none"].edge) == ([1, 2], ["2-float32.zip"])
    ((run, _),) = RefreshFolder(killed / "models", "tiny").reports()
    assert not run.staged.exists()
    assert not run.training.exists()
    assert list((killed / "models" / ".staging").iterdir()) == []


def test_what_was_trained_is_not_trained_again(story: dict[str, Left], killed: Path) -> None:
    assert story["none"].code == 0
    assert set((killed / "trainings.txt").read_text().split()) == {"training", "trained"}
