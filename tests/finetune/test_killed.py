"""Law: killed at any point, a job leaves nothing half-written, and running again finishes it.

One job is killed again and again, each time a little later, as one that meets its deadline would:

    first step ✗   weights saved ✗   in staging ✗   before the edge bundle's rename ✗   done
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundle.repository import ModelRepository
from finetune import pipeline
from finetune.pipeline import Outcome
from finetune.progress import Silent

# Imports everything once, then forks a job for each point: it shows its steps in a file, and dies
# at the point by SIGKILL, from its progress or from where it asks a library for the named thing.
_JOBS = """
import contextlib, os, sys
from pathlib import Path
import tensorflow as tf
from transformers import TFAutoModelForSequenceClassification
from finetune import pipeline, recipe
from finetune.progress import Silent

def kill(*_args, **_kwargs): os.kill(os.getpid(), 9)

class Deadly(Silent):
    def __init__(self, point, shown):
        self.point, self.shown = point, shown
    def step(self, title):
        with self.shown.open("a") as file: file.write(title + "\\n")
        if self.point == "weights saved" and title == "test the model": kill()
        if self.point == "staging" and title == "publish": tf.io.TFRecordWriter = kill
        if self.point == "edge" and title == "test the edge model": os.replace = kill
    @contextlib.contextmanager
    def counted(self, title, total):
        self.step(title)
        yield kill if self.point == "first step" else lambda *_: None
    @contextlib.contextmanager
    def timed(self, title, expected_s):
        self.step(title)
        yield

folder = Path(sys.argv[1])
job = recipe.load(folder / "recipe.yaml")
for line in sys.stdin:
    point = line.strip()
    child = os.fork()
    if child == 0:
        progress = Deadly(point, folder / f"{point}.txt")
        pipeline.run(job, models=folder / "models", runs=folder / "runs", progress=progress)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


# Of 96 test examples 2 may be answered otherwise: no gate is what is tested here.
SETTINGS = ("schedule.epochs=1", "edge.gates.min_agreement=0.9", "edge.gates.max_drop=0.1")


@dataclass(frozen=True)
class Killed:
    """What a killed job left."""

    code: int
    shown: list[str]  # titles of its steps
    versions: list[int]
    edge: list[str]
    trained: bool  # whole weights are there

    @property
    def did_train(self) -> bool:
        return any(title.startswith("train ") for title in self.shown)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def story(folder: Path, tiny_recipe: Any) -> dict[str, Killed]:
    """Each point of death, in order, with what was there after it."""
    (folder / "recipe.yaml").write_text(tiny_recipe(*SETTINGS).to_yaml())
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", _JOBS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as jobs:
        points = ("first step", "weights saved", "staging", "edge")
        return {point: _die(jobs, folder, point) for point in points}


def _die(jobs: subprocess.Popen[str], folder: Path, point: str) -> Killed:
    assert jobs.stdin is not None
    assert jobs.stdout is not None
    print(point, file=jobs.stdin, flush=True)
    code = int(jobs.stdout.readline())
    repository = ModelRepository(folder / "models")
    for version in repository.versions("tiny"):
        repository.load("tiny", version)  # verifies every file
    return Killed(
        code=code,
        shown=(folder / f"{point}.txt").read_text().splitlines(),
        versions=repository.versions("tiny"),
        edge=[path.name for path in repository.edge_bundles("tiny", 1)],
        trained=any((folder / "runs").rglob("trained.json")),
    )


@pytest.fixture(scope="module")
def finished(folder: Path, story: dict[str, Killed], tiny_recipe: Any) -> Outcome:
    """The job, run once more and not killed."""
    return pipeline.run(
        tiny_recipe(*SETTINGS),
        models=folder / "models",
        runs=folder / "runs",
        progress=Silent(),
    )


def test_every_job_was_killed(story: dict[str, Killed]) -> None:
    assert {job.code for job in story.values()} == {-signal.SIGKILL}


def test_killed_in_training_nothing_is_there(story: dict[str, Killed]) -> None:
    job = story["first step"]
    assert (job.did_train, job.trained, job.versions, job.edge) == (True, False, [], [])


def test_killed_after_training_the_weights_are_there(story: dict[str, Killed]) -> None:
    job = story["weights saved"]
    assert (job.did_train, job.trained, job.versions, job.edge) == (True, True, [], [])


def test_killed_while_writing_the_model_no_version_is_there(story: dict[str, Killed]) -> None:
    job = story["staging"]
    assert (job.did_train, job.trained, job.versions, job.edge) == (False, True, [], [])


def test_killed_before_the_edge_bundle_the_version_is_there(story: dict[str, Killed]) -> None:
    job = story["edge"]
    assert (job.did_train, job.trained, job.versions, job.edge) == (False, True, [1], [])


def test_running_again_finishes(finished: Outcome, folder: Path) -> None:
    repository = ModelRepository(folder / "models")
    assert not finished.trained
    assert finished.saved == repository.load("tiny")
    assert finished.edge == repository.edge_bundles("tiny", 1)
    assert len(finished.edge) == 1
    assert repository.versions("tiny") == [1]


def test_the_next_writer_removes_what_the_killed_one_left(finished: Outcome, folder: Path) -> None:
    assert list((folder / "models" / ".staging").iterdir()) == []
