"""Law: Ray Train's workers publish what one device would, and their errors come back as ours."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import recipe, tasks, trainer
from finetune.progress import Silent

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'ray[train]'"
)

SETTINGS = ("schedule.epochs=2", "optimizer.learning_rate=0.002", "edge.profiles=[]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Any) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "recipe.yaml").write_text(tiny_recipe(*SETTINGS).to_yaml())
    return folder


def train(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Two workers of Ray's, through the command line."""
    command = [sys.executable, "-m", "tensorseek.cli", "train", "recipe.yaml", "--json"]
    command += ["--workers", "2", "--launcher", "ray", "--retries", "0", *options]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=280
    )


def test_two_workers_publish_what_one_device_would(folder: Path) -> None:
    done = train(folder)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["version"], answer["trained"]) == (1, True)
    (trained,) = (folder / "runs").glob("tiny/*/trained/trained.json")
    parsed = recipe.load(folder / "recipe.yaml", ["schedule.micro_batches=2"])
    task = tasks.create(parsed)
    alone = trainer.train(task, parsed, task.load_data(), Silent())
    np.testing.assert_allclose(json.loads(trained.read_text())["losses"], alone.losses, rtol=1e-3)


def test_a_workers_own_error_comes_back(folder: Path) -> None:
    refused = train(folder, "--set", "evaluation.min_accuracy=1.0", "--set", "schedule.epochs=1")
    assert refused.returncode == 3
    last = refused.stderr.strip().splitlines()[-1]
    assert "refused: test accuracy" in last
