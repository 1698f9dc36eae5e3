"""Trained weights on disk, so that a job killed after training need not train again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import tensorflow as tf

from bundle import atomic
from finetune.errors import TrainingError

WEIGHTS = "weights"  # prefix of the checkpoint's files

_RECORD = "trained.json"


def save(folder: Path, figures: dict[str, Any], **objects: Any) -> None:
    """Writes the weights of models and optimizers, and a record, as `folder`, all or nothing.

    What lay there before stays until the new is on the disk, and takes its place at once.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        content = Path(temporary, "content")
        tf.train.Checkpoint(**objects).write(str(content / WEIGHTS))
        (content / _RECORD).write_bytes(msgspec.json.encode(figures))
        if folder.exists():
            atomic.exchange_directory(content, folder)
        else:
            atomic.rename_directory(content, folder)


def record(folder: Path) -> dict[str, Any] | None:
    """The record of the training whose weights lie in `folder`; None when none finished.

    Raises:
        TrainingError: the record is damaged.
    """
    path = folder / _RECORD
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise TrainingError(f"{path}: {error}. Remove {folder} to train again.") from error


def restore(prefix: Path, **objects: Any) -> None:
    """Reads the weights of models and optimizers, by the names they were saved under.

    Args:
        prefix: of a checkpoint, or of a SavedModel's `variables`.

    Raises:
        TrainingError: it is missing or damaged, or lacks a weight.
    """
    try:
        status = tf.train.Checkpoint(**objects).read(str(prefix))
        status.assert_existing_objects_matched()
    except (AssertionError, ValueError) as error:  # ValueError: a weight of another shape
        raise TrainingError(f"{prefix}: holds another model: {_line(error)}") from error
    except (tf.errors.OpError, IndexError) as error:  # IndexError: a file was cut
        raise TrainingError(
            f"{prefix}: can't be read: {_line(error)}. Remove {prefix.parent} to train again."
        ) from error
    status.expect_partial()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
