"""Runs the trials of a sweep one after another, and keeps the table of how they went."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bundle import atomic
from finetune import recipe as recipes
from finetune.data import source
from finetune.errors import Interrupted, RecipeError, TrainingError
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.sweep import result
from finetune.sweep import space as spaces
from finetune.sweep.result import Result
from finetune.sweep.space import Space, Values

Stop = Callable[[], bool]

_PROGRAM = "finetune.sweep.trial"
_LOG = "trial.log"
_RESULTS = "results.json"
_POLL_S = 0.2
_CLASSIFIER = ("score", "accuracy", "macro_f1", "ece")
_METRICS = {
    "text-classification": _CLASSIFIER,
    "image-classification": _CLASSIFIER,
    "text-generation": ("score", "perplexity"),
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One trial, finished or failed."""

    trial: str  # its folder's name
    values: Values
    result: Result | None  # None of a failed one
    error: str  # why it failed

    def figure(self, metric: str) -> float | None:
        """What ranks it; None of a failed one."""
        return None if self.result is None else self.result.figures[metric]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a sweep went."""

    folder: Path
    metric: str
    rows: tuple[Row, ...]  # the best first, the failed last


@dataclass(frozen=True, kw_only=True)
class _Trial:
    name: str
    values: Values
    recipe: Recipe


def run(
    recipe: Path,
    sweep: Path,
    *,
    overrides: Sequence[str] = (),
    runs: Path,
    progress: Progress,
    stop: Stop,
) -> Outcome:
    """Trains every trial that is not done, each in a process of its own.

    Args:
        recipe: what all trials have in common.
        sweep: what each sets; see `space`.
        overrides: `key=value`, over the recipe and under the sweep.
        stop: asked all the time; when it says so, the trial at work saves its state and ends.

    Raises:
        RecipeError: the recipe, the sweep, or a trial's settings are not valid; nothing was run.
        DataError: a data set can't be read.
        Interrupted: `stop` said so; running again goes on from there.
        TrainingError: every trial failed.
    """
    space, base = spaces.load(sweep), recipes.load(recipe, overrides)
    _check(space, base, sweep)
    trials = [
        _plan(recipe, sweep, [*overrides, *settings(values)], values) for values in space.trials()
    ]
    return _Job(base, space, trials, runs, progress, stop).run()


def settings(values: Values) -> list[str]:
    """What a trial sets, as of `--set`."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _check(space: Space, base: Recipe, sweep: Path) -> None:
    known = _METRICS[base.task]
    if space.metric not in known:
        raise RecipeError(f"{sweep}: metric: {space.metric} is none of {base.task}; use {known}")
    if base.distribution.strategy in ("multi_worker", "horovod"):
        raise RecipeError(
            f"distribution.strategy {base.distribution.strategy}: a sweep runs on one machine; "
            "use none or mirrored"
        )


def _plan(recipe: Path, sweep: Path, overrides: Sequence[str], values: Values) -> _Trial:
    try:
        content = recipes.load(recipe, overrides)
    except RecipeError as error:
        raise RecipeError(f"{sweep}: {' '.join(settings(values))}: {error}") from error
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return _Trial(name=digest[:12], values=values, recipe=content)


class _Job:
    def __init__(
        self,
        base: Recipe,
        space: Space,
        trials: Sequence[_Trial],
        runs: Path,
        progress: Progress,
        stop: Stop,
    ) -> None:
        self.base = base
        self.space = space
        self.trials = {trial.name: trial for trial in trials}  # a choice may draw one twice
        self.progress = progress
        self.stop = stop
        splits = (base.data.train, base.data.dev, base.data.test)
        data = hashlib.sha256("".join(source.sha256(path) for path in splits).encode()).hexdigest()
        identity = base.identity(base.base_model or "", data)
        self.folder = runs / base.name / f"sweep-{identity[:16]}"
        self.rows = {row.trial: row for row in self._read()}

    def run(self) -> Outcome:
        with self.progress.counted(f"sweep {self.base.name}", len(self.trials)) as advance:
            for trial in self.trials.values():
                self.rows[trial.name] = self._finish(trial)
                self._write()
                figure = self._ranked()[0].figure(self.space.metric)
                advance(1, "all failed" if figure is None else f"best {figure:.4f}")
        rows = self._ranked()
        if rows[0].result is None:
            raise TrainingError(f"{self.folder}: every trial failed, the first: {rows[0].error}")
        return Outcome(folder=self.folder, metric=self.space.metric, rows=rows)

    def _finish(self, trial: _Trial) -> Row:
        folder = self.folder / trial.name
        error = ""
        if result.read(folder) is None:
            atomic.write_bytes(folder / result.RECIPE, trial.recipe.to_yaml().encode())
            error = self._train(folder)
        found = result.read(folder)
        if found is None and not error:
            error = f"ended without a result; see {folder / _LOG}"
        return Row(trial=trial.name, values=trial.values, result=found, error=error)

    def _train(self, folder: Path) -> str:
        """Runs a trial's process to its end; why it failed, if it did."""
        command = [sys.executable, "-m", _PROGRAM, str(folder)]
        path = folder / _LOG
        with (
            path.open("ab") as log,
            # A session of its own, since Ctrl-C is ours to pass on.
            subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as child,
        ):
            while (code := child.poll()) is None:
                if self.stop():
                    child.terminate()
                    raise Interrupted(f"stopped in {folder}; run again to go on from there")
                time.sleep(_POLL_S)
        if code == 0:
            return ""
        if code < 0:
            return f"died with {signal.Signals(-code).name}; see {path}"
        lines = path.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), f"see {path}")

    def _ranked(self) -> tuple[Row, ...]:
        """The rows of this sweep, the best first, the failed last."""
        mine = [row for name, row in self.rows.items() if name in self.trials]
        figures = [row.figure(self.space.metric) for row in mine]
        done = [
            (figure, row) for figure, row in zip(figures, mine, strict=True) if figure is not None
        ]
        done.sort(key=lambda pair: pair[0], reverse=not self.space.lower_is_better)
        return (*(row for _, row in done), *(row for row in mine if row.result is None))

    def _read(self) -> list[Row]:
        path = self.folder / _RESULTS
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Row])
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            raise TrainingError(
                f"{path}: {error}. Remove it: the trials' folders have all."
            ) from error

    def _write(self) -> None:
        content = msgspec.json.encode(list(self.rows.values()))
        atomic.write_bytes(self.folder / _RESULTS, msgspec.json.format(content) + b"\n")
