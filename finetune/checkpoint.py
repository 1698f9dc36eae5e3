"""Trained weights on disk, so that a job killed after training need not train again."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import tensorflow as tf

from bundle import atomic
from finetune.errors import TrainingError

WEIGHTS = "weights"  # prefix of the checkpoint's files

_RECORD = "trained.json"


def save(folder: Path, model: Any, figures: dict[str, Any]) -> None:
    """Writes weights and a record of the training as `folder`, all or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        content = Path(temporary, "content")
        tf.train.Checkpoint(model=model).write(str(content / WEIGHTS))
        (content / _RECORD).write_bytes(msgspec.json.encode(figures))
        if folder.exists():
            shutil.rmtree(folder)
        atomic.rename_directory(content, folder)


def record(folder: Path) -> dict[str, Any] | None:
    """The record of the training whose weights lie in `folder`; None when none finished."""
    try:
        return msgspec.json.decode((folder / _RECORD).read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None


def restore(prefix: Path, model: Any) -> None:
    """Reads the weights of `model` from a checkpoint, or from a SavedModel's `variables`.

    Raises:
        TrainingError: a weight of the model is not in it.
    """
    status = tf.train.Checkpoint(model=model).read(str(prefix))
    try:
        status.assert_existing_objects_matched()
    except AssertionError as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{prefix}: holds another model: {reason}") from error
    status.expect_partial()
