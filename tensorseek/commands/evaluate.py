"""`tensorseek evaluate`: what a model is worth on labelled data."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tensorseek import native_log
from tensorseek.commands import example
from tensorseek.commands.options import Json, Models, Runs
from tensorseek.progress import TerminalProgress

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from finetune.metrics.classification import ClassificationResult
    from tensorseek.evaluation import Measured, Subject

app = typer.Typer()

_FEW = 12  # labels that are shown without being asked for


@app.command(epilog=example("evaluate movie-sentiment --report build/report.html"))
def evaluate(
    target: Annotated[
        str,
        typer.Argument(help="A run's folder, a model's name or version folder, or an edge zip."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Labelled data; by default the model's own test split.")
    ] = None,
    models: Models = Path("models"),
    runs: Runs = Path("runs"),
    report: Annotated[
        Path | None, typer.Option(help="Also write pictures and examples into this HTML file.")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help=f"Show each label, also if over {_FEW}.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measures a model, with confidence intervals, wherever it runs: trained, served, or edge."""
    native_log.redirect(runs / "native.log")
    from tensorseek import evaluation

    progress = TerminalProgress()
    subject = evaluation.find(target, models, progress)
    measured = evaluation.evaluate(subject, data, progress)
    if report is not None:
        import yaml

        from finetune.report import page

        recipe = yaml.safe_dump(dict(subject.recipe), sort_keys=False)
        page.write(report, subject.report(measured, recipe))
    if as_json:
        typer.echo(json.dumps(_answer(subject, measured)))
    else:
        _show(subject, measured, per_class)


def _answer(subject: Subject, measured: Measured) -> dict[str, Any]:
    from finetune.metrics import language

    result = measured.result
    answer = {
        "model": subject.title,
        "kind": subject.kind,
        "task": subject.recipe["task"],
        "data": str(measured.data),
        "data_sha256": measured.data_sha256,
        "metrics": {name: asdict(figure) for name, figure in result.figures.items()},
    }
    if isinstance(result, language.LanguageResult):
        return answer | {"tokens": result.tokens}
    return answer | {
        "classes": [asdict(score) for score in result.classes],
        "absent": result.absent,
        "calibration": [asdict(one) for one in result.bins],
        "confusion": result.confusion.tolist(),
    }


def _show(subject: Subject, measured: Measured, per_class: bool) -> None:
    from finetune.metrics import language

    console, result = Console(), measured.result
    console.print(f"{subject.title} on {measured.data}", highlight=False, markup=False)
    figures = _table("metric", "value", "95% interval", "n")
    for name, one in result.figures.items():
        interval = f"{one.low:.4f} to {one.high:.4f}"
        figures.add_row(name, f"{one.value:.4f}", interval, f"{one.n:,}")
    console.print(figures)
    if isinstance(result, language.LanguageResult):
        return
    if per_class or len(result.classes) <= _FEW:
        console.print(_classes(result))
    if result.absent:
        names = ", ".join(result.absent)
        console.print(f"no example has the label {names}: macro_f1 leaves it out", markup=False)


def _classes(result: ClassificationResult) -> Table:
    table = _table("label", "precision", "recall", "F1", "n")
    for score in result.classes:
        shares = (score.precision, score.recall, score.f1)
        shown = ("–" if share is None else f"{share:.4f}" for share in shares)
        table.add_row(Text(score.label), *shown, f"{score.support:,}")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table
