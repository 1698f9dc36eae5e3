"""One trial, as a program of its own: `python -m finetune.sweep.trial FOLDER`.

It trains what FOLDER/recipe.yaml says, measures the model on the dev split, and leaves
FOLDER/result.json. SIGTERM ends it after the current step, with its state saved.
"""

from __future__ import annotations

import fcntl
import signal
import sys
from pathlib import Path

from bundle import atomic
from finetune import recipe as recipes
from finetune import state, tasks, trainer
from finetune.errors import FinetuneError, TrainingError
from finetune.progress import Silent
from finetune.sweep.result import RECIPE, RESULT, Result, encode, read
from finetune.trainer import Stop


def run(folder: Path, stop: Stop) -> None:
    """Trains, measures, and writes the result.

    Raises:
        TrainingError: training can't go on, or the model's answers are no numbers.
        Interrupted: `stop` said so; the state is saved.
    """
    recipe = recipes.load(folder / RECIPE)
    task = tasks.create(recipe)
    data = task.load_data()
    trained = trainer.train(task, recipe, data, Silent(), folder=folder, stop=stop)
    measured = task.measure(trained.model, data.dev, progress=Silent(), title="")
    if not measured.is_finite:
        raise TrainingError("its answers are not numbers; lower optimizer.learning_rate")
    metrics = {name: metric.value for name, metric in measured.metrics(data.sha256).items()}
    result = Result(
        figures={"score": measured.score} | metrics,
        seconds=trained.seconds,
        examples_per_s=trained.examples_per_s,
        best_epoch=trained.best_epoch,
    )
    atomic.write_bytes(folder / RESULT, encode(result))
    state.discard(folder)


def main(folder: Path) -> int:
    """Runs the trial unless it is done; the exit code."""
    with (folder / ".lock").open("w") as lock:
        # A sweep that was killed leaves its child at work: wait, and find what it did.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read(folder) is not None:
            return 0
        signals: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _: signals.append(received))
        try:
            run(folder, stop=lambda: bool(signals))
        except FinetuneError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
