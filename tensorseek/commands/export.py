"""`tensorseek export`: a published model in another format."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from bundle import archive, manifest
from bundle.errors import RepositoryError
from bundle.manifest import Profile
from bundle.repository import ModelRepository, SavedBundle
from finetune.progress import Progress
from tensorseek import native_log
from tensorseek.commands import example
from tensorseek.commands.options import Json, Models, Runs
from tensorseek.progress import TerminalProgress

app = typer.Typer()

Answer = dict[str, Any]


@app.command(epilog=example("export movie-sentiment --edge full_int8"))
def export(
    model: Annotated[str, typer.Argument(help="A model's name, or a run's folder.")],
    edge: Annotated[
        list[str] | None,
        typer.Option("--edge", help=f"{', '.join(get_args(Profile))}; repeatable."),
    ] = None,
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
    profiles = _profiles(edge or [])
    if not (profiles or onnx or tensorrt):
        raise typer.BadParameter("name a format: --edge, --onnx or --tensorrt")
    native_log.redirect(runs / "native.log")
    if tensorrt:
        from finetune.export import tensorrt as engines

        engines.require()
    repository = ModelRepository(models)
    saved = _find(repository, model, version)
    progress = TerminalProgress()
    answer: Answer = {"model": saved.manifest.name, "version": saved.manifest.version}
    if profiles:
        answer["edge"] = _edge(repository, saved, profiles, progress)
    if onnx or tensorrt:
        answer |= _onnx(repository, saved, onnx=onnx, tensorrt=tensorrt, progress=progress)
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        _show(answer)


def _profiles(names: list[str]) -> list[Profile]:
    known = get_args(Profile)
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"--edge {name!r}: the profiles are {', '.join(known)}")
    return names  # type: ignore[return-value]  # each of them is one


def _find(repository: ModelRepository, model: str, version: int | None) -> SavedBundle:
    """A version by its model's name, or the one that a run trained."""
    folder = Path(model)
    if not (folder / "recipe.yaml").is_file():
        return repository.load(model, version)
    name, job = folder.resolve().parts[-2:]
    for number in reversed(repository.versions(name)):
        saved = repository.load(name, number, verify=False)
        if saved.manifest.provenance.recipe_sha256.startswith(job):
            return repository.load(name, number)
    raise RepositoryError(f"{folder}: no version in {repository.root} was trained by this run")


def _edge(
    repository: ModelRepository, saved: SavedBundle, profiles: list[Profile], progress: Progress
) -> list[Answer]:
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune.export import candidate, edge_bundle
    trained = candidate.of_version(saved, progress)
    made = []
    for profile in profiles:
        path = edge_bundle.publish(repository, saved, trained, profile, progress)
        made.append({"profile": profile, "path": str(path)} | _evaluation(path))
    return made


def _evaluation(path: Path) -> Answer:
    content = archive.unpack(path)[manifest.FILE_NAME]
    found = manifest.decode(content, str(path)).edge
    if found is None:
        raise TypeError(f"{path}: is no edge bundle")  # we have just made it
    return {
        "evaluation": found.evaluation,
        "islands": list(found.islands),
        "search": msgspec.to_builtins(found.search),
    }


def _onnx(
    repository: ModelRepository,
    saved: SavedBundle,
    *,
    onnx: bool,
    tensorrt: bool,
    progress: Progress,
) -> Answer:
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune.export import onnx as files
        from finetune.export import tensorrt as engines
    answer: Answer = {}
    source = files.path_of(repository, saved.manifest.name, saved.manifest.version)
    if onnx or not source.is_file():
        verdict = files.publish(repository, saved, progress)
        answer |= {"onnx": str(source), "size_bytes": source.stat().st_size} | asdict(verdict)
    if tensorrt:
        answer["tensorrt"] = str(engines.publish(repository, saved, source, progress))
    return answer


def _show(answer: Answer) -> None:
    for made in answer.get("edge", []):
        _show_edge(made)
    if "onnx" in answer:
        typer.echo(
            f"{answer['onnx']}: {answer['size_bytes']:,} bytes; differs from TensorFlow by at most "
            f"{answer['random_difference']:.2g}, from the golden answers by at most "
            f"{answer['golden_difference']:.2g}"
        )
    if "tensorrt" in answer:
        typer.echo(f"{answer['tensorrt']}: for this machine's GPU only")


def _show_edge(made: Answer) -> None:
    figures = made["evaluation"]
    measure, loss = ("perplexity", "rise") if "perplexity" in figures else ("accuracy", "drop")
    typer.echo(
        f"{made['path']}: {figures['size_bytes'] / 1e6:.1f} MB; "
        f"{measure} {figures[measure]:.4f}, "
        f"float {figures[f'float_{measure}']:.4f}: {loss} {figures[loss]:.4f} "
        f"({figures[f'{loss}_low']:.4f} to {figures[f'{loss}_high']:.4f}); "
        f"agreement {figures['agreement']:.4f} on {figures['examples']:.0f} test examples"
    )
    for attempt in made["search"]:
        settings = "".join(f", {name} {value:g}" for name, value in attempt["settings"].items())
        typer.echo(
            f"  {'took' if attempt['passed'] else 'tried'} {attempt['step']}{settings}: on dev, "
            f"{loss} {attempt['drop']:.4f}, agreement {attempt['agreement']:.4f}, "
            f"error {attempt['error']:.4f}"
        )
    if made["islands"]:
        typer.echo(f"  float: {', '.join(made['islands'])}")
