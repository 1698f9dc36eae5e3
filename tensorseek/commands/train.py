"""`tensorseek quickstart | train`: from data to published bundles."""

from __future__ import annotations

import functools
import json
import signal
from pathlib import Path
from typing import Annotated

import typer

from tensorseek import native_log
from tensorseek.commands import example
from tensorseek.commands.options import Json, Models, Runs
from tensorseek.progress import TerminalProgress

app = typer.Typer()


@app.command(epilog=example("quickstart --models models --json build/quickstart.json"))
def quickstart(
    models: Models = Path("models"),
    runs: Runs = Path("runs"),
    data: Annotated[Path, typer.Option(help="Where the example's splits go.")] = Path("data"),
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report to this file.")
    ] = None,
) -> None:
    """Fine-tunes, publishes, quantizes, serves and asks the movie-sentiment example."""
    native_log.redirect(runs / "native.log")
    from tensorseek import quickstart as job

    prepare = functools.partial(job.movie_sentiment, data)
    report = job.run(prepare, models=models, runs=runs, progress=TerminalProgress())
    job.show(report)
    if json_file is not None:
        job.write(report, json_file)


@app.command(epilog=example("train recipe.yaml --set schedule.epochs=2"))
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML; see finetune/recipes/.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, over the file; repeatable.")
    ] = None,
    models: Models = Path("models"),
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Trains what a recipe says and publishes it; what is there already is not made again.

    SIGTERM or Ctrl-C ends it after the current step, with its state saved; the same command goes
    on from there.
    """
    native_log.redirect(runs / "native.log")
    from finetune import recipe as recipes
    from finetune.errors import LeftToChief

    parsed = recipes.load(recipe, overrides or [])
    progress = TerminalProgress()
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune import pipeline
    signals: list[
        int
    ] = []  # a list, since a handler that interrupts itself must not wait for a lock
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: signals.append(received))
    try:
        outcome = pipeline.run(
            parsed, models=models, runs=runs, progress=progress, stop=lambda: bool(signals)
        )
    except LeftToChief as done:
        typer.echo(str(done))
        return
    manifest = outcome.saved.manifest
    answer = {
        "model": manifest.name,
        "version": manifest.version,
        "trained": outcome.trained,
        "accuracy": manifest.metrics["accuracy"].value,
        "path": str(outcome.saved.path),
        "edge": [str(path) for path in outcome.edge],
    }
    if as_json:
        typer.echo(json.dumps(answer))
        return
    verb = "published" if outcome.trained else "is there already:"
    typer.echo(f"{manifest.name} {verb} version {manifest.version} in {outcome.saved.path}")
    typer.echo(f"test accuracy {answer['accuracy']:.4f}")
    for path in outcome.edge:
        typer.echo(f"edge bundle {path}")
