"""`tensorseek refresh`: trains a published model again when new data has come."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from tensorseek import native_log, process
from tensorseek.commands import example
from tensorseek.commands.options import Json, Models, Runs
from tensorseek.errors import NotifyError
from tensorseek.notify import notify as tell
from tensorseek.progress import TerminalProgress
from tensorseek.schedule import Missed, Schedule, parse_interval

if TYPE_CHECKING:  # a command imports what it needs when it runs
    from finetune.progress import Progress
    from finetune.recipe import Recipe
    from finetune.refresh.folder import Report
    from tensorseek.canary.record import Trial

app = typer.Typer()

_REFUSED = 3
_LATER = 75  # sysexits.h: EX_TEMPFAIL
_POLL_S = 0.5


@app.command(epilog=example("refresh recipe.yaml --models models --every 24h"))
def refresh(  # noqa: PLR0913, PLR0917 (as many as the options)
    recipe: Annotated[Path, typer.Argument(help="YAML with `refresh`; see docs/refresh.md.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, over the file; repeatable.")
    ] = None,
    models: Models = Path("models"),
    runs: Runs = Path("runs"),
    every: Annotated[
        str | None, typer.Option(help="Go on for ever, this often: 15m, 24h, 7d.")
    ] = None,
    jitter: Annotated[float, typer.Option(help="Share of --every that a run may be late.")] = 0.1,
    missed: Annotated[
        Missed, typer.Option(help="A run whose time has passed: run it at once, or skip it.")
    ] = "run",
    notify: Annotated[
        list[str] | None,
        typer.Option(help="Address or command that gets the report as JSON; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Looks for new data, trains a challenger, and publishes it if it is no worse.

    With `refresh.canary` the new version is first tried on a share of the gateway's calls. Exit
    code 0: published, or nothing new; 3: the data or the challenger were refused, or it was
    withdrawn from its trial, and the champion stays; 75: another job is refreshing this model, or
    the trial needs more calls; 1: failed. Killed at any step, the same command goes on from there.
    """
    process.follow_parent()
    if every is not None:
        schedule = Schedule(every_s=parse_interval(every), jitter=jitter, missed=missed)
        _repeat(schedule, sys.argv[1:])
        return
    native_log.redirect(runs / "native.log")
    from finetune import recipe as recipes

    parsed = recipes.load(recipe, overrides or [])
    progress = TerminalProgress()
    report, trial = _run(parsed, models, progress, process.asked_to_stop())
    content = msgspec.json.encode({**_plain(report), "trial": _plain(trial) or None})
    if trial is not None or (report is not None and report.verdict != "nothing new"):
        _notify(notify or [], content)
    if as_json:
        typer.echo(content.decode())
    else:
        _show(report, trial)
    raise typer.Exit(_exit_code(report, trial))


def _run(
    recipe: Recipe, models: Path, progress: Progress, stop: Callable[[], bool]
) -> tuple[Report | None, Trial | None]:
    """The trial that an earlier run left, then new data, then the trial of what came of them."""
    from tensorseek.canary import trial as trials

    left = trials.go_on(recipe, models=models, progress=progress, stop=stop)
    if left is not None and left.verdict == "running":
        return None, left
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune.refresh import job
    report = job.run(recipe, models=models, progress=progress, stop=stop)
    if not report.on_trial:
        return report, left
    return report, trials.go_on(recipe, models=models, progress=progress, stop=stop)


def _plain(found: Report | Trial | None) -> dict[str, Any]:
    return {} if found is None else msgspec.to_builtins(found, str_keys=True)


def _exit_code(report: Report | None, trial: Trial | None) -> int:
    if trial is not None and trial.verdict == "running":
        return _LATER
    refused = report is not None and report.verdict in ("refused", "kept")
    withdrawn = trial is not None and trial.verdict == "withdrawn"
    return _REFUSED if refused or withdrawn else 0


def _show(report: Report | None, trial: Trial | None) -> None:
    if report is not None:
        _show_report(report)
    if trial is not None:
        stays = "" if trial.verdict == "promoted" else f"; version {trial.champion} stays"
        verdict = "still on trial" if trial.verdict == "running" else trial.verdict
        typer.echo(f"{trial.model}: version {trial.version} is {verdict}{stays}")
        for reason in trial.reasons:
            typer.echo(f"  {reason}")


def _show_report(report: Report) -> None:
    served = "no version" if report.champion is None else f"version {report.champion}"
    match report.verdict:
        case "published":
            trial = " on trial" if report.on_trial else ""
            typer.echo(f"{report.model}: published version {report.version}{trial}")
        case "nothing new":
            typer.echo(f"{report.model}: nothing new; {served} stays")
        case "refused":
            typer.echo(f"{report.model}: the new data are refused; {served} stays")
        case "kept":
            typer.echo(f"{report.model}: the new model is refused; {served} stays")
    for reason in report.reasons:
        typer.echo(f"  {reason}")
    if report.likelihood is not None:
        thought = report.likelihood
        typer.echo(f"test perplexity {thought.champion:.4g} → {thought.challenger:.4g}")
    if report.holdout is not None:
        found = report.holdout
        typer.echo(
            f"test accuracy {found.champion:.4f} → {found.challenger:.4f} "
            f"({found.gained} answers gained, {found.lost} lost)"
        )


def _notify(targets: Sequence[str], message: bytes) -> None:
    """A report that could not be delivered changes nothing of what it reports."""
    for target in targets:
        try:
            tell(target, message)
        except NotifyError as error:
            typer.echo(f"tensorseek: {error}", err=True)


def _repeat(schedule: Schedule, arguments: Sequence[str]) -> None:
    """Each run in a process of its own: one that is killed for its memory takes nothing along."""
    stop = process.asked_to_stop()
    once = [sys.executable, "-m", "tensorseek.cli", *_without_every(arguments)]

    def job() -> None:
        with subprocess.Popen(once, env=os.environ | process.followed()) as child:
            while child.poll() is None:
                try:
                    child.wait(_POLL_S)
                except subprocess.TimeoutExpired:
                    if stop():
                        child.terminate()
        if child.returncode not in (0, _REFUSED, _LATER):
            typer.echo(f"tensorseek: refresh ended with {child.returncode}", err=True)

    schedule.repeat(job, stop)


def _without_every(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--every" and not argument.startswith("--every="):
            kept.append(argument)
        skip = argument == "--every"
    return kept
