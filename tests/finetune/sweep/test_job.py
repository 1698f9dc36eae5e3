"""Laws of a sweep: all trials are checked first, and what is done is never done again."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle import atomic
from finetune.errors import DataError, Interrupted, RecipeError
from finetune.progress import Silent
from finetune.sweep import job, result, trial
from finetune.sweep.job import Outcome
from finetune.sweep.result import Result

Sweep = Callable[..., Outcome]


def never() -> bool:
    return False


@pytest.fixture
def sweep(tiny_recipe: Any, tmp_path: Path) -> Sweep:
    """Runs a sweep of the tiny recipe below the test's folder."""
    recipe, file = tmp_path / "recipe.yaml", tmp_path / "sweep.yaml"
    lines = tiny_recipe().data.train.read_text().splitlines(keepends=True)
    short = tmp_path / "short.jsonl"  # two steps an epoch, of one shape
    short.write_text("".join([line for line in lines if line.count(" ") <= 8][:16]))
    recipe.write_text(tiny_recipe(f"data.train={short}", f"data.dev={short}").to_yaml())

    def run(content: object, *overrides: str, stop: Callable[[], bool] = never) -> Outcome:
        file.write_text(yaml.safe_dump(content))
        return job.run(
            recipe,
            file,
            overrides=overrides,
            runs=tmp_path / "runs",
            progress=Silent(),
            stop=stop,
        )

    return run


def test_a_stopped_trial_is_taken_up_where_it_was(sweep: Sweep, tmp_path: Path) -> None:
    content = {"grid": {"schedule.epochs": [8]}}

    def losses() -> list[list[float]]:
        states = (tmp_path / "runs").glob("tiny/sweep-*/*/state/trained.json")
        return [json.loads(path.read_text())["losses"] for path in states]

    with pytest.raises(Interrupted, match="run again to go on from there"):
        sweep(content, stop=lambda: bool(losses()))  # after an epoch
    (before,) = losses()
    assert len(before) >= 2
    (folder,) = (tmp_path / "runs").glob("tiny/sweep-*/*/")
    seen: list[list[float]] = []

    def look() -> bool:
        seen.extend(losses())
        return False

    trial.run(folder, stop=look)
    assert seen
    assert all(later[: len(before)] == before for later in seen)
    outcome = sweep(content)  # nothing is left to do
    assert outcome.rows[0].result == result.read(folder)
    assert not (folder / "state").exists()


def test_a_trial_that_is_at_work_elsewhere_is_waited_for(tmp_path: Path) -> None:
    """Such as by the child of a sweep that was killed."""
    done = Result(figures={"score": 1.0}, seconds=1.0, examples_per_s=1.0, best_epoch=1)
    command = [sys.executable, "-m", "finetune.sweep.trial", str(tmp_path)]
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command) as child:
            atomic.write_bytes(tmp_path / "result.json", result.encode(done))
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert child.wait(60) == 0  # there is no recipe to train
    assert result.read(tmp_path) == done


@pytest.mark.parametrize(
    ("content", "overrides", "expected"),
    [
        ({"grid": {"optimizer.rate": [1]}}, [], r"optimizer\.rate=1: .*unknown key 'optimizer\.r"),
        ({"grid": {"schedule.epochs": [1, 0]}}, [], r"schedule\.epochs=0: .*, got 0"),
        ({"grid": {"seed": [1]}, "metric": "perplexity"}, [], "perplexity is none of text-class"),
        ({"grid": {"seed": [1]}}, ["distribution.strategy=horovod"], "a sweep runs on one machine"),
    ],
)
def test_nothing_runs_before_every_trial_is_valid(
    sweep: Sweep, tmp_path: Path, content: object, overrides: list[str], expected: str
) -> None:
    with pytest.raises(RecipeError, match=expected):
        sweep(content, *overrides)
    assert not (tmp_path / "runs").exists()


def test_missing_data_stops_it_before_the_first_trial(sweep: Sweep, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        sweep({"grid": {"seed": [1]}}, f"data.train={tmp_path / 'none.jsonl'}")
