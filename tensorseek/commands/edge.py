"""`tensorseek edge run | verify`: a quantized bundle on this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edge.runner import EdgeRunner
from tensorseek.commands import example
from tensorseek.commands.inputs import Images, line, read_inputs
from tensorseek.commands.options import Json

app = typer.Typer(no_args_is_help=True, help="Runs and verifies edge bundles on this device.")

Bundle = Annotated[Path, typer.Argument(help="An edge bundle: …/edge/<N>-<profile>.zip.")]
Threads = Annotated[int, typer.Option(min=1, max=64, help="CPU threads of one call.")]


@app.command(
    epilog=example('edge run models/movie-sentiment/edge/1-dynamic_int8.zip "a fine film"')
)
def run(
    bundle: Bundle,
    texts: Annotated[list[str] | None, typer.Argument(help="One or several texts.")] = None,
    images: Images = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Classifies texts or pictures; a line each."""
    inputs = read_inputs(texts, images)
    runner = EdgeRunner.open(bundle, threads)
    for shown, raw in inputs:
        typer.echo(line(shown, runner.predict(raw), as_json))


@app.command(epilog=example("edge verify models/movie-sentiment/edge/1-dynamic_int8.zip"))
def verify(bundle: Bundle, threads: Threads = 1, as_json: Json = False) -> None:
    """Checks every hash, loads the model, and compares its answers with the published ones."""
    runner = EdgeRunner.open(bundle, threads)
    manifest, proven = runner.manifest, runner.verification
    if as_json:
        answer = {"model": manifest.name, "version": manifest.version, **vars(proven)}
        typer.echo(json.dumps(answer | {"runtime": runner.runtime.name}))
        return
    typer.echo(f"{manifest.name} version {manifest.version}: good")
    typer.echo(f"{proven.files} files have their published SHA-256")
    typer.echo(
        f"{proven.golden_examples} golden inputs answered by {runner.runtime.name} "
        f"{runner.runtime.version}: largest difference {proven.golden_difference:.4f}, "
        f"tolerance {proven.golden_tolerance:.4f}"
    )
