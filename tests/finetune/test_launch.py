"""Laws of the launcher: each worker knows its part, and a lost one costs no more than a restart.

Two trainings go through the command line, as a person would start them:

    lost    two workers without a launcher; one is killed, the other one says so
    story   worker 1 killed ─► all start again ─► SIGTERM ─► all stop ─► --resume ─► published
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import recipe, tasks, tf_config, trainer
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


def eventually(condition: Callable[[], Any], timeout_s: float = 120) -> Any:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.05)
    return found


def free_addresses(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


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

    stopped: subprocess.CompletedProcess[str]
    stopped_at: int  # steps that were done
    logs: list[str]  # of the workers, so far
    finished: subprocess.CompletedProcess[str]
    figures: dict[str, Any]


@dataclass(frozen=True)
class Lost:
    """How a worker without a launcher ended after the other one was killed."""

    code: int
    error: str
    after_s: float


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Any) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    settings = ("schedule.epochs=4", "optimizer.learning_rate=0.002", "edge.profiles=[]")
    (folder / "recipe.yaml").write_text(tiny_recipe(*settings).to_yaml())
    return folder


@pytest.fixture(scope="module")
def lost_and_story(folder: Path) -> Iterator[tuple[Lost, Story]]:
    """The second while the first waits for a dead worker's heartbeat."""
    with ExitStack() as stack:
        addresses = free_addresses(2)
        workers = [
            stack.enter_context(
                _start(folder / "lost", TF_CONFIG=tf_config.write(addresses, index))
            )
            for index in range(2)
        ]
        eventually(lambda: _steps(folder / "lost") > 1)
        workers[1].kill()
        killed = time.monotonic()
        with ThreadPoolExecutor() as pool:
            line = pool.submit(lambda: (_last_line(workers[0]), time.monotonic() - killed))
            story = _story(folder / "story")
            error, after_s = line.result()
        yield Lost(workers[0].wait(60), error, after_s), story


def _story(folder: Path) -> Story:
    spread = ("--workers", "2", "--retries", "1")
    with _start(folder, *spread) as launcher:
        before = eventually(lambda: _steps(folder))
        os.kill(_children(launcher.pid)[1], signal.SIGKILL)
        eventually(lambda: _steps(folder) > before + 3)
        launcher.terminate()
        stopped = _finish(launcher)
    steps = _steps(folder)
    logs = [path.read_text() for path in sorted((folder / "runs/tiny/workers").iterdir())]
    with _start(folder, *spread, "--resume", "--json") as launcher:
        finished = _finish(launcher)
    (trained,) = (folder / "runs").glob("tiny/*/trained/trained.json")
    return Story(stopped, steps, logs, finished, json.loads(trained.read_text()))


def _start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    """The command line as a process, saving after every step."""
    command = [sys.executable, "-m", "tensorseek.cli", "train", str(folder.parent / "recipe.yaml")]
    command += ["--models", str(folder / "models"), "--runs", str(folder / "runs"), *options]
    command += ["--set", "checkpoint.every_s=0.001", "--set", "distribution.strategy=multi_worker"]
    pipe = subprocess.PIPE
    told = os.environ | environment
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=told)


def _finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    printed, errors = process.communicate(timeout=180)
    return subprocess.CompletedProcess([], process.returncode, printed, errors)


def _last_line(process: subprocess.Popen[str]) -> str:
    """Of standard error, as soon as it is an error of ours."""
    assert process.stderr is not None
    return next(line for line in process.stderr if line.startswith("tensorseek: "))


def _steps(folder: Path) -> int:
    """That the saved state has done."""
    for path in (folder / "runs").glob("tiny/*/state/trained.json"):
        with suppress(FileNotFoundError):  # replaced just now
            return len(json.loads(path.read_text())["losses"])
    return 0


def _children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in listed.split()]


def test_a_lost_worker_makes_the_other_one_stop_and_say_so(
    lost_and_story: tuple[Lost, Story],
) -> None:
    lost, _ = lost_and_story
    assert lost.error.startswith("tensorseek: worker 1 is gone, so this process stops; start all")
    assert lost.after_s < 60
    assert lost.code == 1


def test_a_killed_worker_is_told_and_all_start_again(lost_and_story: tuple[Lost, Story]) -> None:
    _, story = lost_and_story
    (line,) = (line for line in story.stopped.stderr.splitlines() if "restart" in line)
    assert line == "worker 1 was killed by SIGKILL; restart 1 of 1, from the last saved state"


def test_sigterm_stops_all_workers_after_the_same_step(lost_and_story: tuple[Lost, Story]) -> None:
    _, story = lost_and_story
    assert story.stopped.returncode == 1
    said = f"stopped after step {story.stopped_at}; run again to go on from there"
    assert f"tensorseek: all workers stopped: {said}" in story.stopped.stderr
    for log in story.logs:
        assert log.strip().endswith(f"tensorseek: {said}")


def test_what_went_on_twice_equals_what_never_stopped(
    lost_and_story: tuple[Lost, Story], folder: Path
) -> None:
    """Two workers, killed, stopped and resumed, with dropout: as two micro-batches on one device."""
    _, story = lost_and_story
    assert story.finished.returncode == 0, story.finished.stderr
    assert json.loads(story.finished.stdout)["trained"]
    parsed = recipe.load(folder / "recipe.yaml", ["schedule.micro_batches=2"])
    task = tasks.create(parsed)
    alone = trainer.train(task, parsed, task.load_data(), Silent())
    assert len(alone.losses) > 100
    np.testing.assert_allclose(story.figures["losses"], alone.losses, rtol=1e-3)
    assert story.figures["dev_scores"] == alone.dev_scores
    assert story.figures["best_epoch"] == alone.best_epoch
