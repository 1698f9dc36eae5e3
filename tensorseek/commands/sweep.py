"""What `tensorseek train --sweep` does: many trainings, and the table of how they went."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tensorseek.progress import TerminalProgress

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from finetune.sweep.job import Outcome, Row


def run(recipe: Path, sweep: Path, *, overrides: Sequence[str], runs: Path, as_json: bool) -> None:
    """Runs a sweep, and shows its trials and the options that make the best one."""
    from finetune.sweep import job

    signals: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))
    outcome = job.run(
        recipe,
        sweep,
        overrides=overrides,
        runs=runs,
        progress=TerminalProgress(),
        stop=lambda: bool(signals),
    )
    options = [*overrides, *job.settings(outcome.rows[0].values)]
    if as_json:
        answer = {
            "folder": str(outcome.folder),
            "metric": outcome.metric,
            "trials": msgspec.to_builtins(outcome.rows),
            "best": options,
        }
        typer.echo(json.dumps(answer))
        return
    _show(outcome)
    words = [word for option in options for word in ("--set", option)]
    typer.echo(f"tensorseek train {shlex.join([str(recipe), *words])}")


def _show(outcome: Outcome) -> None:
    keys = list(dict.fromkeys(key for row in outcome.rows for key in row.values))
    table = Table()
    for header in ("", *keys, outcome.metric, "examples/s", "seconds", "trial"):
        table.add_column(header, overflow="fold")
    for place, row in enumerate(outcome.rows, start=1):
        values = [json.dumps(row.values.get(key)) for key in keys]
        table.add_row(str(place), *map(Text, values), *_result(row, outcome.metric), row.trial)
    Console().print(table)


def _result(row: Row, metric: str) -> tuple[Text, Text, Text]:
    if row.result is None:
        return Text(row.error), Text(), Text()
    figures = (f"{row.result.figures[metric]:.4f}", f"{row.result.examples_per_s:.0f}")
    return Text(figures[0]), Text(figures[1]), Text(f"{row.result.seconds:.1f}")
