"""Laws: two ranks of Horovod's train as one device does, and its image is built from what is here.

Horovod is on no index for this TensorFlow: `docker/build-horovod .venv` builds it for these tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import recipe, tasks, trainer
from finetune.progress import Silent

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docker" / "build-horovod"
IMAGE = ROOT / "docker" / "horovod.Dockerfile"

needs_horovod = pytest.mark.skipif(
    importlib.util.find_spec("horovod") is None,
    reason="Horovod is not installed: docker/build-horovod .venv",
)

# The second rank dies by SIGKILL in its 8th step.
_LOSE_A_RANK = """
import itertools, os, sys
from pathlib import Path
from finetune import errors, recipe, tasks, trainer
from finetune.progress import Silent

steps = itertools.count(1)
def stop():
    if next(steps) == 8 and os.environ["HOROVOD_RANK"] == "1":
        os.kill(os.getpid(), 9)
    return False

parsed = recipe.load(Path(sys.argv[1]), ["distribution.strategy=horovod"])
task = tasks.create(parsed)
try:
    trainer.train(task, parsed, task.load_data(), Silent(), stop=stop)
except errors.WorkerLost as lost:
    Path(sys.argv[2]).write_text(str(lost))
"""


def ranks(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python command in two ranks."""
    launcher = Path(sys.executable).with_name("horovodrun")
    return subprocess.run(
        [str(launcher), "-np", "2", "--gloo", sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Any) -> Path:
    path = tmp_path_factory.mktemp("horovod") / "recipe.yaml"
    settings = ("schedule.epochs=2", "optimizer.learning_rate=0.002", "edge.profiles=[]")
    path.write_text(tiny_recipe(*settings).to_yaml())
    return Path(path)


@needs_horovod
def test_two_ranks_equal_one_device(path: Path) -> None:
    """Also with dropout: two ranks have the masks of two micro-batches on one device."""
    models, runs = path.parent / "models", path.parent / "runs"
    done = ranks(
        *("-m", "tensorseek.cli", "train", str(path), "--set", "distribution.strategy=horovod"),
        *("--models", str(models), "--runs", str(runs)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[0]<stdout>:tiny published version 1" in done.stdout
    assert "[1]<stdout>:tiny: trained; the chief worker publishes it" in done.stdout
    (trained,) = runs.glob("tiny/*/trained/trained.json")
    figures = json.loads(trained.read_text())
    parsed = recipe.load(path, ["schedule.micro_batches=2"])
    task = tasks.create(parsed)
    alone = trainer.train(task, parsed, task.load_data(), Silent())
    np.testing.assert_allclose(figures["losses"][:20], alone.losses[:20], rtol=1e-4)
    np.testing.assert_allclose(figures["losses"], alone.losses, rtol=1e-3)
    assert figures["dev_scores"] == alone.dev_scores


@needs_horovod
def test_a_lost_rank_makes_the_other_one_stop_and_say_so(path: Path) -> None:
    told = path.parent / "told.txt"
    # Horovod's launcher ends the rest by SIGTERM; a training of ours would go on to its next step.
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{_LOSE_A_RANK}"
    assert ranks("-c", code, str(path), str(told)).returncode != 0
    assert told.read_text().startswith("another rank is gone, so this process stops; start all of")


def test_the_script_says_how_it_is_called() -> None:
    done = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: docker/build-horovod <virtual environment")
    assert subprocess.run(["sh", "-n", str(SCRIPT)], check=False).returncode == 0


def test_the_image_copies_what_there_is_and_ends_in_no_root() -> None:
    text = IMAGE.read_text().replace("\\\n", " ")
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {"libhighwayhash-dev", "libfarmhash-dev", "cmake", "g++"} <= set(text.split())
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["1000"]
