"""Laws of the launcher: each worker knows its part, and a lost one costs no more than a restart.

One training of two workers goes through the command line and meets everything:

    worker 1 killed ─► all start again ─► SIGTERM ─► all stop ─► --resume ─► published
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import recipe, tasks, trainer
from finetune.errors import GateRefused, Interrupted, TrainingError
from finetune.launch import Launch, run
from finetune.progress import Silent

_SAY_WHO = """
import json, os, sys
config = json.loads(os.environ["TF_CONFIG"])
print(config["task"]["index"], len(set(config["cluster"]["worker"])), os.environ["EXTRA"])
"""
_DIE = "import os; os.kill(os.getpid(), 9)"
_FAIL = "import sys; print('tensorseek: no such file', file=sys.stderr); sys.exit({})"
_WAIT = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("tensorseek: stopped after step 3"))
pathlib.Path(sys.argv[1]).joinpath(str(__import__("os").getpid())).touch()
signal.pause()
"""


def wait_for_steps(launcher: subprocess.Popen[str], folder: Path, more_than: int) -> None:
    """Until the saved state has done so many."""
    deadline = time.monotonic() + 200  # two workers start TensorFlow and compile
    while _steps(folder) <= more_than:
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)


def launch(tmp_path: Path, code: str, *arguments: str, **settings: Any) -> list[str]:
    """Runs two workers of a few lines; gives what the launcher said."""
    said: list[str] = []
    stop = settings.pop("stop", lambda: False)
    command = [sys.executable, "-c", code, *arguments]
    plan = {"workers": 2, "retries": 0, "logs": tmp_path, **settings}
    run(Launch(command=command, **plan), say=said.append, stop=stop)
    return said


def test_each_worker_is_told_its_part_and_has_a_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = launch(tmp_path, _SAY_WHO, workers=3, environment={"EXTRA": "mine"})
    assert said == [f"worker {index}: {tmp_path}/worker-{index}.log" for index in range(3)]
    assert capfd.readouterr().out == "0 3 mine\n"  # the chief's answer is the launcher's
    assert (tmp_path / "worker-2.log").read_text() == "2 3 mine\n"


def test_lost_workers_are_started_again_but_not_for_ever(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Launch(command=[sys.executable, "-c", _DIE], workers=2, retries=2, logs=tmp_path)
    expected = rf"worker \d was killed by SIGKILL; gave up after 2 restarts; .* {tmp_path}"
    with pytest.raises(TrainingError, match=expected):
        run(plan, say=said.append, stop=lambda: False)
    restarts = [line for line in said if "restart" in line]
    assert [line.split("; ")[1] for line in restarts] == [
        "restart 1 of 2, from the last saved state",
        "restart 2 of 2, from the last saved state",
    ]


@pytest.mark.parametrize(("code", "error"), [(1, TrainingError), (3, GateRefused)])
def test_a_workers_own_error_ends_all_and_is_told(
    tmp_path: Path, code: int, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"worker \d: no such file \(log: .*worker-\d\.log\)") as told:
        launch(tmp_path, _FAIL.format(code), retries=5)
    assert type(told.value) is error


def test_a_stop_reaches_every_worker(tmp_path: Path) -> None:
    folder = tmp_path / "started"
    folder.mkdir()
    with pytest.raises(Interrupted, match="all workers stopped: stopped after step 3"):
        launch(tmp_path, _WAIT, str(folder), stop=lambda: len(list(folder.iterdir())) == 2)
    for index in range(2):
        assert "stopped after step 3" in (tmp_path / f"worker-{index}.log").read_text()


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("retries", -1)])
def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(TrainingError, match=f"{name}: {value} is"):
        launch(tmp_path, _DIE, **{name: value})


@dataclass(frozen=True)
class Story:
    """A training that meets everything, and what it left; see the module."""

    restart: str  # what the launcher said
    restart_after_s: float
    stopped: subprocess.CompletedProcess[str]
    stopped_at: int  # steps that were done
    logs: list[str]  # of the workers, so far
    finished: subprocess.CompletedProcess[str]
    figures: dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Any) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    settings = ("schedule.epochs=3", "optimizer.learning_rate=0.002", "edge.profiles=[]")
    (folder / "recipe.yaml").write_text(tiny_recipe(*settings, "memory.xla=true").to_yaml())
    return folder


@pytest.fixture(scope="module")
def story(folder: Path) -> Story:
    spread = ("--workers", "2", "--retries", "1")
    with _start(folder, *spread) as launcher:
        wait_for_steps(launcher, folder, 0)
        os.kill(_children(launcher.pid)[1], signal.SIGKILL)
        killed = time.monotonic()
        restart = _line(launcher, "worker 1 was")
        restart_after_s = time.monotonic() - killed
        wait_for_steps(launcher, folder, _steps(folder))
        launcher.terminate()
        stopped = _finish(launcher)
    steps = _steps(folder)
    logs = [path.read_text() for path in sorted((folder / "runs/tiny/workers").iterdir())]
    with _start(folder, *spread, "--resume", "--json") as launcher:
        finished = _finish(launcher)
    (trained,) = (folder / "runs").glob("tiny/*/trained/trained.json")
    return Story(
        restart, restart_after_s, stopped, steps, logs, finished, json.loads(trained.read_text())
    )


def _start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command line as a process, saving after every step."""
    command = [sys.executable, "-m", "tensorseek.cli", "train", str(folder / "recipe.yaml")]
    command += ["--models", str(folder / "models"), "--runs", str(folder / "runs"), *options]
    command += ["--set", "checkpoint.every_s=0.001"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


def _finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    printed, errors = process.communicate(timeout=180)
    return subprocess.CompletedProcess([], process.returncode, printed, errors)


def _line(process: subprocess.Popen[str], beginning: str) -> str:
    """The next such line of standard error, as soon as it is there."""
    assert process.stderr is not None
    return next(line for line in process.stderr if line.startswith(beginning)).strip()


def _steps(folder: Path) -> int:
    """That the saved state has done."""
    for path in (folder / "runs").glob("tiny/*/state/trained.json"):
        with suppress(FileNotFoundError):  # replaced just now
            return len(json.loads(path.read_text())["losses"])
    return 0


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


def test_a_killed_worker_is_told_and_all_start_again(story: Story) -> None:
    assert story.restart == (
        "worker 1 was killed by SIGKILL; restart 1 of 1, from the last saved state"
    )
    assert story.restart_after_s < 60


def test_a_lost_worker_makes_the_other_one_stop_and_say_so(story: Story) -> None:
    (line,) = (line for line in story.logs[0].splitlines() if " is gone" in line)
    assert line.startswith("tensorseek: worker 1 is gone, so this process stops; start all of")


def test_what_xla_can_not_compile_is_left_out_and_told(story: Story) -> None:
    for log in story.logs:
        assert "memory.xla: left out, since XLA can't compile sums over replicas" in log


def test_sigterm_stops_all_workers_after_the_same_step(story: Story) -> None:
    assert story.stopped.returncode == 1
    said = f"stopped after step {story.stopped_at}; run again to go on from there"
    assert f"tensorseek: all workers stopped: {said}" in story.stopped.stderr
    for log in story.logs:
        assert log.strip().endswith(f"tensorseek: {said}")


def test_what_went_on_twice_equals_what_never_stopped(story: Story, folder: Path) -> None:
    """Also with dropout: two workers have the masks of two micro-batches on one device."""
    assert story.finished.returncode == 0, story.finished.stderr
    assert json.loads(story.finished.stdout)["trained"]
    parsed = recipe.load(folder / "recipe.yaml", ["schedule.micro_batches=2", "memory.xla=false"])
    task = tasks.create(parsed)
    alone = trainer.train(task, parsed, task.load_data(), Silent())
    assert len(alone.losses) > 60
    np.testing.assert_allclose(story.figures["losses"][:20], alone.losses[:20], rtol=1e-4)
    np.testing.assert_allclose(story.figures["losses"], alone.losses, rtol=1e-3)
    assert story.figures["dev_scores"] == alone.dev_scores
    assert story.figures["best_epoch"] == alone.best_epoch
