"""`tensorseek export`: a published model in another format."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bundle.repository import ModelRepository
from tensorseek import native_log
from tensorseek.commands import example
from tensorseek.commands.options import Json, Models, Runs
from tensorseek.progress import TerminalProgress

app = typer.Typer()


@app.command(epilog=example("export movie-sentiment --onnx"))
def export(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="One file for onnxruntime.")] = False,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="An engine for this machine's GPU, through ONNX.")
    ] = False,
    version: Annotated[
        int | None, typer.Option(min=1, help="By default the one that is served.")
    ] = None,
    models: Models = Path("models"),
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Converts a published version, and writes it only if it answers as the original does."""
    if not (onnx or tensorrt):
        raise typer.BadParameter("name a format: --onnx or --tensorrt")
    native_log.redirect(runs / "native.log")
    from finetune.export import tensorrt as engines

    if tensorrt:
        engines.require()
    repository = ModelRepository(models)
    saved = repository.load(model, version)
    progress = TerminalProgress()
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune.export import onnx as files
    answer: dict[str, object] = {"model": model, "version": saved.manifest.version}
    source = files.path_of(repository, model, saved.manifest.version)
    if onnx or not source.is_file():
        verdict = files.publish(repository, saved, progress)
        answer |= {"onnx": str(source), "size_bytes": source.stat().st_size} | asdict(verdict)
    if tensorrt:
        answer["tensorrt"] = str(engines.publish(repository, saved, source, progress))
    if as_json:
        typer.echo(json.dumps(answer))
        return
    if "onnx" in answer:
        typer.echo(
            f"{source}: {answer['size_bytes']:,} bytes; differs from TensorFlow by at most "
            f"{answer['random_difference']:.2g}, from the golden answers by at most "
            f"{answer['golden_difference']:.2g}"
        )
    if tensorrt:
        typer.echo(f"{answer['tensorrt']}: for this machine's GPU only")
