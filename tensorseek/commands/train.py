"""`tensorseek quickstart | train`: from data to published bundles."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tensorseek import native_log, process
from tensorseek.commands import example, launchers
from tensorseek.commands import sweep as sweeps
from tensorseek.commands.options import Json, Models, Runs
from tensorseek.progress import TerminalProgress

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from finetune.pipeline import Outcome

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
def train(  # noqa: PLR0913, PLR0917 (as many as the options)
    recipe: Annotated[Path, typer.Argument(help="YAML; see finetune/recipes/.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, over the file; repeatable.")
    ] = None,
    sweep: Annotated[
        Path | None,
        typer.Option(help="YAML of settings to try; publishes none: see finetune/sweep/space.py."),
    ] = None,
    workers: launchers.Workers = None,
    launcher: launchers.Launcher = "local",
    retries: launchers.Retries = 3,
    resume: Annotated[
        bool, typer.Option("--resume", help="Fail unless there is an unfinished training.")
    ] = False,
    models: Models = Path("models"),
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Trains what a recipe says and publishes it; what is there already is not made again.

    SIGTERM or Ctrl-C ends it after the current step, with its state saved; the same command goes
    on from there.
    """
    process.follow_parent()
    if sweep is not None:
        sweeps.run(recipe, sweep, overrides=overrides or [], runs=runs, as_json=as_json)
        return
    native_log.redirect(runs / "native.log")
    from finetune import recipe as recipes
    from finetune.errors import LeftToChief

    settings = [*(overrides or []), *["checkpoint.resume=true"] * resume]
    is_new = False  # a version that workers of Ray's published
    if workers is not None:
        job = launchers.Job(
            recipe=recipe,
            overrides=(settings := launchers.spread(settings)),
            models=models,
            runs=runs,
            workers=workers,
            retries=retries,
        )
        if launcher == "local":
            launchers.local(job, as_json=as_json)
            return
        is_new = launchers.ray(job)
    parsed = recipes.load(recipe, settings)
    progress = TerminalProgress()
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune import pipeline
    stop = process.asked_to_stop()
    try:
        outcome = pipeline.run(parsed, models=models, runs=runs, progress=progress, stop=stop)
    except LeftToChief as done:
        typer.echo(str(done))
        return
    _show(outcome, trained=outcome.trained or is_new, as_json=as_json)


def _show(outcome: Outcome, *, trained: bool, as_json: bool) -> None:
    manifest = outcome.saved.manifest
    if as_json:
        answer = {
            "model": manifest.name,
            "version": manifest.version,
            "trained": trained,
            **{name: metric.value for name, metric in manifest.metrics.items()},
            "path": str(outcome.saved.path),
            "edge": [str(path) for path in outcome.edge],
        }
        typer.echo(json.dumps(answer))
        return
    verb = "published" if trained else "is there already:"
    typer.echo(f"{manifest.name} {verb} version {manifest.version} in {outcome.saved.path}")
    for name, metric in manifest.metrics.items():
        interval = "" if metric.low is None else f" ({metric.low:.4g} to {metric.high:.4g})"
        typer.echo(f"{name} {metric.value:.4g}{interval}")
    for path in outcome.edge:
        typer.echo(f"edge bundle {path}")
