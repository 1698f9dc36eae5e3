"""`tensorseek models | pin | rollback`: what is in the model repository, and what is served.

`tensorseek models history` tells how it came there; `promote` and `withdraw` end a trial by hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bundle.repository import ModelRepository
from tensorseek.commands import example
from tensorseek.commands.options import Json, Models

app = typer.Typer()
group = typer.Typer(invoke_without_command=True)
app.add_typer(group, name="models", epilog=example("models --models models --json"))

Name = Annotated[str, typer.Argument(help="A model's name.")]


@group.callback()
def models(context: typer.Context, models: Models = Path("models"), as_json: Json = False) -> None:
    """Lists models, versions, and which version is served."""
    if context.invoked_subcommand is not None:
        return
    repository = ModelRepository(models)
    rows = [_row(repository, name) for name in repository.names()]
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        served = f"serves {row.serving}{' (pinned)' if row.pinned else ''}"
        served += f", tries {row.trial}" if row.trial else ""
        edge = ", ".join(row.edge) or "none"
        typer.echo(f"{row.name}  versions {row.versions}  {served}  edge: {edge}")
    if not rows:
        typer.echo(f"no models in {models}; make one with: tensorseek quickstart")


@group.command(epilog=example("models history movie-sentiment"))
def history(name: Name, models: Models = Path("models"), as_json: Json = False) -> None:
    """Tells what each refresh of a model came to, and why."""
    from finetune.refresh.folder import RefreshFolder
    from tensorseek.canary import record

    ModelRepository(models).serving(name)  # an unknown model is an error, not an empty history
    found = [(report, record.of(run)) for run, report in RefreshFolder(models, name).reports()]
    if as_json:
        rows = [
            {**msgspec.to_builtins(report), "trial": msgspec.to_builtins(trial, str_keys=True)}
            for report, trial in found
        ]
        typer.echo(json.dumps(rows))
        return
    for report, trial in found:
        result = (
            f"version {report.version}" if report.version else f"version {report.champion} stays"
        )
        verdict: str = report.verdict
        reasons = report.reasons
        if report.on_trial:
            verdict = f"{verdict} on trial"
            result += f" {'waits for its trial' if trial is None else trial.verdict}"
            reasons = () if trial is None else trial.reasons
        typer.echo(f"{report.begun}  {verdict}  {result}  {'; '.join(reasons)}".rstrip())
    if not found:
        typer.echo(f"{name}: was never refreshed; begin with: tensorseek refresh RECIPE")


@group.command(epilog=example("models promote movie-sentiment"))
def promote(name: Name, models: Models = Path("models")) -> None:
    """Ends the trial of a version: it is served."""
    repository = ModelRepository(models)
    repository.promote(name)
    typer.echo(f"{name}: serves version {repository.serving(name)}")


@group.command(epilog=example("models withdraw movie-sentiment"))
def withdraw(name: Name, models: Models = Path("models")) -> None:
    """Ends the trial of a version: it stays in the repository, and is not served."""
    repository = ModelRepository(models)
    repository.withdraw(name)
    typer.echo(f"{name}: serves version {repository.serving(name)}")


@app.command(epilog=example("pin movie-sentiment 1"))
def pin(
    name: Name,
    version: Annotated[int | None, typer.Argument(help="By default the newest, unpinned.")] = None,
    models: Models = Path("models"),
) -> None:
    """Serves one version until further notice, or the newest one again."""
    repository = ModelRepository(models)
    if version is None:
        repository.unpin(name)
    else:
        repository.pin(name, version)
    typer.echo(f"{name}: serves version {repository.serving(name)}")


@app.command(epilog=example("rollback movie-sentiment"))
def rollback(name: Name, models: Models = Path("models")) -> None:
    """Serves the version before the one that is served."""
    typer.echo(f"{name}: serves version {ModelRepository(models).rollback(name)}")


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    versions: list[int]
    serving: int
    pinned: bool
    trial: int | None
    withdrawn: list[int]
    edge: list[str]


def _row(repository: ModelRepository, name: str) -> _Row:
    serving, held = repository.serving(name), repository.held(name)
    return _Row(
        name=name,
        versions=repository.versions(name),
        serving=serving,
        pinned=repository.pinned(name) is not None,
        trial=held.trial,
        withdrawn=list(held.withdrawn),
        edge=[path.name for path in repository.edge_bundles(name, serving)],
    )
