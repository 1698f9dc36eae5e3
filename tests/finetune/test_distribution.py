"""Law: two devices, or two workers, train as one does on the same global batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune import distribution, recipe
from finetune.errors import TrainingError

# Another process: the number of a machine's devices is fixed once TensorFlow has started.
_TRAIN = """
import json, sys
from pathlib import Path
import finetune
import tensorflow as tf
recipe_path, devices, *overrides = sys.argv[1:]
cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices)
)
import tf_keras
from finetune import recipe, tasks, trainer
from finetune.progress import Silent
from finetune.tasks.text_classification import TextClassification

build = TextClassification.build_model
def without_dropout(self):
    model = build(self)
    for layer in model.submodules:
        if isinstance(layer, tf_keras.layers.Dropout):
            layer.rate = 0.0
    return model
TextClassification.build_model = without_dropout

parsed = recipe.load(Path(recipe_path), overrides)
task = tasks.create(parsed)
trained = trainer.train(task, parsed, task.load_data(), Silent())
weights = [float(abs(v.numpy()).sum()) for v in trained.model.trainable_variables]
print(json.dumps({"losses": trained.losses, "weights": weights}))
"""


def start(path: Path, devices: int, *overrides: str, **environment: str) -> Any:
    command = [sys.executable, "-c", _TRAIN, str(path), str(devices), *overrides]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
    )


def finish(child: Any) -> dict[str, Any]:
    printed, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors[-2000:]
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return figures


@pytest.fixture(scope="module")
def path(tiny_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parsed = tiny_recipe("schedule.epochs=1", "optimizer.learning_rate=0.003", "head.dropout=0")
    path = tmp_path_factory.mktemp("distribution") / "recipe.yaml"
    path.write_text(parsed.to_yaml())
    return Path(path)


@pytest.fixture(scope="module")
def alone(path: Path) -> dict[str, Any]:
    return finish(start(path, 1))


def check_equal(found: dict[str, Any], alone: dict[str, Any]) -> None:
    assert len(alone["losses"]) > 10
    np.testing.assert_allclose(found["losses"], alone["losses"], rtol=1e-4)
    # Attention does not depend on the bias of its keys, which is moved by rounding alone.
    np.testing.assert_allclose(found["weights"], alone["weights"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pieces", [1, 2])
def test_two_mirrored_devices_equal_one(path: Path, alone: dict[str, Any], pieces: int) -> None:
    found = finish(
        start(
            path,
            2,
            "distribution.strategy=mirrored",
            'distribution.devices=["CPU:0", "CPU:1"]',
            f"schedule.micro_batches={pieces}",
        )
    )
    check_equal(found, alone)


def test_two_workers_equal_one(path: Path, alone: dict[str, Any]) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    children = [
        start(
            path,
            1,
            "distribution.strategy=multi_worker",
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]
    for found in [finish(child) for child in children]:
        check_equal(found, alone)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "TF_CONFIG is not set"),
        ("{", "can't be read"),
        ('{"cluster": {"worker": ["a:1"]}}', "can't be read"),
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
