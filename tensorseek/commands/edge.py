"""`tensorseek edge run | verify`: a quantized bundle on this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edge.runner import EdgeRunner
from tensorseek.commands import example
from tensorseek.commands.options import Json

app = typer.Typer(no_args_is_help=True, help="Runs and verifies edge bundles on this device.")

Bundle = Annotated[Path, typer.Argument(help="An edge bundle: …/edge/<N>-<profile>.zip.")]
Threads = Annotated[int, typer.Option(min=1, max=64, help="CPU threads of one call.")]


@app.command(
    epilog=example('edge run models/movie-sentiment/edge/1-dynamic_int8.zip "a fine film"')
)
def run(
    bundle: Bundle,
    texts: Annotated[list[str], typer.Argument(help="One or several texts.")],
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Classifies texts; a line a text."""
    runner = EdgeRunner.open(bundle, threads)
    for text in texts:
        labels = runner.predict(text)
        if as_json:
            scores = {item.label: item.score for item in labels}
            typer.echo(json.dumps({"text": text, "label": labels[0].label, "scores": scores}))
        else:
            typer.echo("  ".join(f"{item.label} {item.score:.4f}" for item in labels))


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
