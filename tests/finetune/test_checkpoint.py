"""Laws of checkpoints: what was saved comes back whole, and anything else is a named error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import checkpoint
from finetune.errors import TrainingError

# Kills itself where the n-th file or folder must reach the disk.
_KILLED = """
import os, sys
from pathlib import Path
import tensorflow as tf
from finetune import checkpoint
original, seen = os.fsync, []
def fsync(descriptor):
    seen.append(descriptor)
    if len(seen) == 2: os.kill(os.getpid(), 9)
    original(descriptor)
os.fsync = fsync
model = tf.Module()
model.kernel = tf.Variable([5.0])
checkpoint.save(Path(sys.argv[1]), {"steps": 5}, model=model)
"""


def model(**values: Any) -> tf.Module:
    made = tf.Module()
    for name, value in values.items():
        setattr(made, name, tf.Variable(value, dtype=tf.float32))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "job" / "trained"
    checkpoint.save(path, {"steps": 3, "losses": [0.5]}, model=model(kernel=[1.0, 2.0]))
    return path


def test_weights_and_record_come_back(folder: Path) -> None:
    assert checkpoint.record(folder) == {"steps": 3, "losses": [0.5]}
    fresh = model(kernel=[0.0, 0.0])
    checkpoint.restore(folder / checkpoint.WEIGHTS, model=fresh)
    np.testing.assert_array_equal(fresh.kernel, [1, 2])


def test_saving_again_replaces_both_and_leaves_nothing_else(folder: Path) -> None:
    checkpoint.save(folder, {"steps": 9}, model=model(kernel=[7.0]))
    assert checkpoint.record(folder) == {"steps": 9}
    fresh = model(kernel=[0.0])
    checkpoint.restore(folder / checkpoint.WEIGHTS, model=fresh)
    assert fresh.kernel.numpy() == [7]
    assert list(folder.parent.iterdir()) == [folder]


def test_no_training_leaves_no_record(tmp_path: Path) -> None:
    assert checkpoint.record(tmp_path / "trained") is None


def test_a_damaged_record_is_named_with_the_way_out(folder: Path) -> None:
    (folder / "trained.json").write_bytes(b"{")
    with pytest.raises(TrainingError, match=rf"trained\.json: .*Remove {folder} to train again"):
        checkpoint.record(folder)


@pytest.mark.parametrize(
    "other", [{"bias": [1.0, 2.0]}, {"kernel": [1.0, 2.0, 3.0]}, {"kernel": [1.0, 2], "bias": [1]}]
)
def test_weights_of_another_model_are_refused(folder: Path, other: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"trained/weights: holds another model: "):
        checkpoint.restore(folder / checkpoint.WEIGHTS, model=model(**other))


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:5], lambda _: b""])
@pytest.mark.parametrize("file", ["weights.index", "weights.data-00000-of-00001"])
def test_damaged_weights_are_named_with_the_way_out(folder: Path, file: str, damage: Any) -> None:
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    with pytest.raises(TrainingError, match=rf"can't be read: .*Remove {folder} to train again"):
        checkpoint.restore(folder / checkpoint.WEIGHTS, model=model(kernel=[0.0, 0.0]))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none/weights: can't be read: .*matching files"):
        checkpoint.restore(tmp_path / "none" / "weights", model=model(kernel=[0.0]))


def test_weights_of_a_published_version_can_be_taken_too(tmp_path: Path) -> None:
    outer = tf.Module()
    outer.model = model(kernel=[4.0])
    tf.saved_model.save(outer, str(tmp_path))
    fresh = model(kernel=[0.0])
    checkpoint.restore(tmp_path / "variables" / "variables", model=fresh)
    assert fresh.kernel.numpy() == [4]


def test_killed_while_saving_leaves_the_old(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _KILLED, str(folder)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    test_weights_and_record_come_back(folder)
