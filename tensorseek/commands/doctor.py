"""`tensorseek doctor`: what this machine is, and what is wrong with it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tensorseek.commands import example
from tensorseek.commands.options import Json, Runs
from tensorseek.progress import TerminalProgress

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from finetune.doctor import Report

app = typer.Typer()


@app.command(epilog=example("doctor --json"))
def doctor(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Tells versions, devices, and what works when tried; exits 1 if training can't work."""
    from finetune import doctor as examination

    with TerminalProgress().timed("try TensorFlow", expected_s=10):
        report = examination.examine(runs)
    if as_json:
        answer = msgspec.to_builtins(report) | {"can_train": report.can_train}
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        _show(report)
    if not report.can_train:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    console = Console()
    for section, facts in groupby(report.facts, key=lambda fact: fact.section):
        table = Table(title=section, title_justify="left", show_header=False, box=None)
        for fact in facts:
            table.add_row(fact.name, Text(fact.value))  # what comes from outside is no markup
        console.print(table)
    for problem in report.problems:
        typer.echo(f"{'wrong' if problem.stops_training else 'note'}: {problem.what}")
        typer.echo(f"  fix: {problem.fix}")
    if not report.problems:
        typer.echo("nothing is wrong")
