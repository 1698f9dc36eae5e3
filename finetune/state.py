"""An unfinished training on disk: all that the next step depends on.

<folder>/state/    weights, optimizer (moments, iterations, loss scale) and the position
<folder>/best/     the weights of the best epoch so far
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from finetune import checkpoint
from finetune.errors import TrainingError


class Position(msgspec.Struct, kw_only=True):
    """How far a training is, and what it has seen."""

    epoch: int = 0  # epochs that are done
    step: int = 0  # batches of the current epoch that are done
    examples: int = 0
    seconds: float = 0.0
    skipped: int = 0  # steps whose gradients overflowed
    losses: list[float] = msgspec.field(default_factory=list)
    learning_rates: list[float] = msgspec.field(default_factory=list)
    dev_scores: list[float] = msgspec.field(default_factory=list)
    best_epoch: int = 0  # from 1


class TrainingState:
    """Saves and restores a training, all or nothing.

    Args:
        folder: None keeps the state for this process only.
        writes: False for a worker that is not the chief, whose state is the same: it saves none.
    """

    def __init__(self, folder: Path | None, model: Any, optimizer: Any, *, writes: bool) -> None:
        if folder is None:
            self._own = tempfile.TemporaryDirectory(prefix="tensorseek-state-")  # gone with us
            folder = Path(self._own.name)
        self._folder = folder
        self._writes = writes
        self._model = model
        self._optimizer = optimizer
        self.saved_step = 0  # of the saved state; 0 when there is none

    def save(self, position: Position) -> None:
        """Replaces the saved state."""
        self.saved_step = len(position.losses)
        if self._writes:
            figures = msgspec.to_builtins(position)
            checkpoint.save(
                self._folder / "state", figures, model=self._model, optimizer=self._optimizer
            )

    def restore(self) -> Position | None:
        """Takes up the saved state; None when there is none.

        Raises:
            TrainingError: it is damaged, or of another training.
        """
        folder = self._folder / "state"
        figures = checkpoint.record(folder)
        if figures is None:
            return None
        checkpoint.restore(
            folder / checkpoint.WEIGHTS, model=self._model, optimizer=self._optimizer
        )
        try:
            position = msgspec.convert(figures, Position)
        except msgspec.ValidationError as error:
            raise TrainingError(f"{folder}: {error}. Remove it to train again.") from error
        self.saved_step = len(position.losses)
        return position

    def save_best(self) -> None:
        """Keeps the weights of now as the best ones."""
        if self._writes:
            checkpoint.save(self._folder / "best", {}, model=self._model)

    def restore_best(self) -> None:
        """Takes up the weights of the best epoch; only who writes needs them."""
        if self._writes:
            checkpoint.restore(self._folder / "best" / checkpoint.WEIGHTS, model=self._model)


def discard(folder: Path) -> None:
    """Removes the state of a training that is over; its result is elsewhere."""
    for name in ("state", "best"):
        shutil.rmtree(folder / name, ignore_errors=True)
