"""Law: two devices train as one does on the same global batch; `test_launch` has two workers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import distribution, recipe, tasks, trainer
from finetune.errors import TrainingError
from finetune.progress import Silent
from finetune.trainer import Trained

# Another process: the number of a machine's devices is fixed once TensorFlow has started.
_TRAIN = """
import json, sys
from pathlib import Path
import finetune
import tensorflow as tf
folder, devices, *overrides = sys.argv[1:]
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices)
)
from finetune import recipe, tasks, trainer
from finetune.progress import Silent

parsed = recipe.load(Path(folder, "recipe.yaml"), overrides)
task = tasks.create(parsed)
trained = trainer.train(task, parsed, task.load_data(), Silent(), folder=Path(folder))
weights = [float(abs(v.numpy()).sum()) for v in trained.model.trainable_variables]
print(json.dumps({"losses": trained.losses, "weights": weights}))
"""


def start(folder: Path, devices: int, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _TRAIN, str(folder), str(devices), *overrides]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def finish(child: subprocess.Popen[str]) -> dict[str, Any]:
    printed, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors[-2000:]
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return figures


@dataclass(frozen=True)
class Both:
    alone: Trained
    mirrored: dict[str, Any]
    logs: list[Path]  # of the latter


@pytest.fixture(scope="module")
def both(tiny_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """The same training on one device and on two, which accumulate micro-batches besides."""
    folder = tmp_path_factory.mktemp("distribution")
    settings = ("schedule.epochs=1", "optimizer.learning_rate=0.003", "head.dropout=0")
    parsed = tiny_recipe(*settings, "logging.every=5")
    (folder / "recipe.yaml").write_text(parsed.to_yaml())
    child = start(
        folder,
        2,
        "distribution.strategy=mirrored",
        'distribution.devices=["CPU:0", "CPU:1"]',
        "schedule.micro_batches=2",
    )
    task = tasks.create(parsed)
    alone = trainer.train(task, parsed, task.load_data(), Silent())
    return Both(alone, finish(child), list((folder / "logs").glob("events.*")))


def test_two_mirrored_devices_equal_one(both: Both) -> None:
    alone, mirrored = both.alone, both.mirrored
    weights = [float(abs(v.numpy()).sum()) for v in alone.model.trainable_variables]
    assert len(alone.losses) > 10
    np.testing.assert_allclose(mirrored["losses"], alone.losses, rtol=1e-4)
    # Attention does not depend on the bias of its keys, which is moved by rounding alone.
    np.testing.assert_allclose(mirrored["weights"], weights, rtol=1e-4, atol=1e-4)


def test_tensorboard_sees_a_training_on_two_devices(both: Both) -> None:
    assert len(both.logs) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "TF_CONFIG is not set"),
        ("{", "can't be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "can't be read"),
        ('{"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}', "can't be read"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "can't be read"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}',
            "task 3 of 1 workers",
        ),
    ],
)
def test_a_wrong_tf_config_is_explained(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(TrainingError, match=problem):
        distribution.create(recipe.Distribution(strategy="multi_worker"))


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(TrainingError, match=r"no device 'GPU:7'; there are: \['CPU:0'"):
        distribution.create(recipe.Distribution(strategy="mirrored", devices=("GPU:7",)))


@pytest.mark.skipif(importlib.util.find_spec("horovod") is not None, reason="Horovod is installed")
def test_horovod_that_is_not_installed_is_explained() -> None:
    with pytest.raises(TrainingError, match=r"Horovod is not installed; run docker/build-horovod"):
        distribution.create(recipe.Distribution(strategy="horovod"))


# As Kubeflow's training operator sets it, without and with a chief of its own; as Ray Train does.
_WORKERS = {"worker": ["job-worker-0.team.svc:2222", "job-worker-1.team.svc:2222"]}
_CHIEF = {"chief": ["job-chief-0.team.svc:2222"], "worker": ["job-worker-0.team.svc:2222"]}


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "is_chief"),
    [
        (_WORKERS, "worker", 0, True),
        (_WORKERS, "worker", 1, False),
        (_CHIEF, "chief", 0, True),
        (_CHIEF, "worker", 0, False),
    ],
)
def test_who_publishes_is_known_before_the_others_are_there(
    monkeypatch: pytest.MonkeyPatch,
    cluster: dict[str, list[str]],
    kind: str,
    index: int,
    is_chief: bool,
) -> None:
    told = {"cluster": cluster, "task": {"type": kind, "index": index}, "environment": "cloud"}
    monkeypatch.setenv("TF_CONFIG", json.dumps(told))
    settings = recipe.Distribution(strategy="multi_worker")
    assert distribution.is_chief(settings) == is_chief


def test_one_process_is_its_own_chief() -> None:
    assert distribution.is_chief(recipe.Distribution())
    assert distribution.is_chief(recipe.Distribution(strategy="mirrored"))


def test_a_process_outside_of_the_cluster_may_publish_what_its_workers_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = recipe.Distribution(strategy="multi_worker")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.is_chief(settings)
    workers = ["127.0.0.1:1", "127.0.0.1:2"]
    for index in (0, 1):
        task = {"type": "worker", "index": index}
        told = json.dumps({"cluster": {"worker": workers}, "task": task})
        monkeypatch.setenv("TF_CONFIG", told)
        assert distribution.is_chief(settings) is (index == 0)
