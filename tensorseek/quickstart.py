"""The main job on real data, end to end, and one report of what came out.

sentences + encoder ─► fine-tune ─► models/movie-sentiment/1/ ─► backend ─► gateway ─┐
                                    models/movie-sentiment/edge/1-dynamic_int8.zip ──┴─► report
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from bundle import atomic
from edge.runner import EdgeRunner
from finetune import recipe as recipes
from finetune.data import jsonl
from finetune.metrics import interval
from finetune.progress import Progress
from finetune.recipe import Recipe
from serving.client import Client
from tensorseek import movies, stack
from tensorseek.fetch import cache_folder

RECIPE = Path(recipes.__file__).parent / "recipes" / "movie-sentiment.yaml"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the quickstart measured; accuracies are shares of the test split."""

    served_accuracy: float  # SavedModel, asked through the gateway
    served_accuracy_low: float  # 95% interval
    served_accuracy_high: float
    edge_accuracy: float  # TFLite, in the edge runner
    edge_accuracy_low: float
    edge_accuracy_high: float
    agreement: float  # share of sentences that both label the same
    test_examples: int
    saved_model_bytes: int
    edge_bytes: int
    gateway_p50_ms: float
    gateway_p95_ms: float
    edge_p50_ms: float
    edge_p95_ms: float
    train_examples_per_s: float
    total_s: float
    model_version: int
    trained: bool  # False: the version was there already
    saved_model: str
    edge_bundle: str
    runs: str


@dataclass(frozen=True)
class _Asked:
    """One side's answers to the test split, and how long each took."""

    labels: list[str]
    milliseconds: list[float]


def movie_sentiment(data: Path, progress: Progress) -> Recipe:
    """Fetches the example's encoder and sentences; its recipe, over the splits below `data`.

    Raises:
        FetchError: they can't be had.
    """
    cache = cache_folder()
    encoder = movies.encoder(cache, progress)
    folder = data / "movie-sentiment"
    movies.write_splits(folder, cache, progress)
    splits = [f"data.{name}={folder / name}.jsonl" for name in ("train", "dev", "test")]
    return recipes.load(RECIPE, [f"base_model={encoder}", *splits])


def run(
    prepare: Callable[[Progress], Recipe], *, models: Path, runs: Path, progress: Progress
) -> Report:
    """Runs the job; what is there from an earlier run is used again.

    Args:
        prepare: gets what the job needs; its time counts.

    Raises:
        GateRefused: the model, or its quantized form, is not good enough.
    """
    start = time.monotonic()
    recipe = prepare(progress)
    with progress.timed("load TensorFlow", expected_s=8):
        from finetune import pipeline  # noqa: PLC0415 (7 s)
    outcome = pipeline.run(recipe, models=models, runs=runs, progress=progress)
    manifest = outcome.saved.manifest
    bundle = outcome.edge[0]

    test = jsonl.read(recipe.data.test, recipe.data.labels)
    truth = [recipe.data.labels[index] for index in test.labels]
    served = _ask_gateway(recipe.name, models, runs / "logs", test.texts, progress)
    edge = _ask_edge(bundle, test.texts, progress)
    hits = [sum(map(str.__eq__, side.labels, truth)) for side in (served, edge)]
    intervals = [interval.wilson(count, len(truth)) for count in hits]
    return Report(
        served_accuracy=hits[0] / len(truth),
        served_accuracy_low=intervals[0][0],
        served_accuracy_high=intervals[0][1],
        edge_accuracy=hits[1] / len(truth),
        edge_accuracy_low=intervals[1][0],
        edge_accuracy_high=intervals[1][1],
        agreement=sum(map(str.__eq__, served.labels, edge.labels)) / len(truth),
        test_examples=len(truth),
        saved_model_bytes=_folder_bytes(outcome.saved.path),
        edge_bytes=bundle.stat().st_size,
        gateway_p50_ms=float(np.percentile(served.milliseconds, 50)),
        gateway_p95_ms=float(np.percentile(served.milliseconds, 95)),
        edge_p50_ms=float(np.percentile(edge.milliseconds, 50)),
        edge_p95_ms=float(np.percentile(edge.milliseconds, 95)),
        train_examples_per_s=manifest.metrics["train_examples_per_s"].value,
        total_s=time.monotonic() - start,
        model_version=manifest.version,
        trained=outcome.trained,
        saved_model=str(outcome.saved.path),
        edge_bundle=str(bundle),
        runs=str(runs),
    )


def write(report: Report, path: Path) -> None:
    """Writes the report as JSON."""
    text = msgspec.json.format(msgspec.json.encode(asdict(report)), indent=2)
    atomic.write_bytes(path, text + b"\n")


def show(report: Report) -> None:
    """Prints the report as a table."""
    table = Table(title=f"movie-sentiment version {report.model_version}")
    for title in ("", "cloud (gateway)", "edge (int8 TFLite)"):
        table.add_column(title)
    served = _interval(
        report.served_accuracy, report.served_accuracy_low, report.served_accuracy_high
    )
    edge = _interval(report.edge_accuracy, report.edge_accuracy_low, report.edge_accuracy_high)
    table.add_row("test accuracy (95%)", served, edge)
    table.add_row(
        "latency p50 / p95",
        f"{report.gateway_p50_ms:.1f} / {report.gateway_p95_ms:.1f} ms",
        f"{report.edge_p50_ms:.1f} / {report.edge_p95_ms:.1f} ms",
    )
    table.add_row(
        "size", f"{report.saved_model_bytes / 1e6:.1f} MB", f"{report.edge_bytes / 1e6:.1f} MB"
    )
    console = Console()
    console.print(table)
    for path in (report.saved_model, report.edge_bundle, report.runs):
        console.print(path, soft_wrap=True)
    console.print(
        f"agreement {report.agreement:.1%} on {report.test_examples} test sentences; "
        f"trained at {report.train_examples_per_s:.0f} examples/s; "
        f"{report.total_s:.0f} s in all"
    )
    console.print("Next: tensorseek up")


def _ask_gateway(
    model: str, models: Path, logs: Path, texts: tuple[str, ...], progress: Progress
) -> _Asked:
    ports = stack.free_ports()
    children = [
        stack.backend(models, ports, logs),
        stack.gateway(models, ports, logs, needs_model=True),
    ]

    def answer(text: str) -> str:
        return client.predict(model, [text]).labels[0][0].label

    with stack.running(children):
        with progress.timed("start backend and gateway", expected_s=15):
            stack.wait_ready(children)
        with Client(f"{stack.HOST}:{ports.gateway}") as client:
            return _ask("ask the gateway", answer, texts, progress)


def _ask_edge(bundle: Path, texts: tuple[str, ...], progress: Progress) -> _Asked:
    runner = EdgeRunner.open(bundle)
    return _ask("ask the edge runner", lambda text: runner.predict(text)[0].label, texts, progress)


def _ask(
    title: str, answer: Callable[[str], str], texts: tuple[str, ...], progress: Progress
) -> _Asked:
    asked = _Asked([], [])
    with progress.counted(title, len(texts)) as advance:
        for text in texts:
            start = time.perf_counter()
            asked.labels.append(answer(text))
            asked.milliseconds.append(1e3 * (time.perf_counter() - start))
            advance()
    return asked


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.4f} ({low:.3f} to {high:.3f})"


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
