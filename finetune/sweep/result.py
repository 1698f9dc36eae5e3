"""What a trial leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from finetune.errors import TrainingError

RECIPE = "recipe.yaml"
RESULT = "result.json"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How a trial went."""

    figures: dict[str, float]  # on the dev split, by name
    seconds: float  # of the training steps
    examples_per_s: float
    best_epoch: int  # whose weights were measured, from 1


def encode(result: Result) -> bytes:
    """The result as JSON."""
    return msgspec.json.format(msgspec.json.encode(result)) + b"\n"


def read(folder: Path) -> Result | None:
    """The result in a trial's folder; None when the trial is not done.

    Raises:
        TrainingError: it is damaged.
    """
    path = folder / RESULT
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise TrainingError(f"{path}: {error}. Remove it to run the trial again.") from error
