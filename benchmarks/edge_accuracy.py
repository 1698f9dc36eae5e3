"""What quantization costs: accuracy, size and time of every profile, on three trained models.

command   TENSORSEEK_DATA=<folder> make bench-edge-accuracy   (trains what is not trained yet)

Each profile is made as by `tensorseek export --edge`, all choices on the dev split, and judged
on the whole test split. Times are of one thread and alternate between the profiles, so that a drift
of the machine meets all alike.

    <model>_<profile>_drop        accuracy of float minus that of the profile: 0.01 is one point
    <model>_<profile>_agreement   share of test examples with the float model's label
    <model>_<profile>_size        bytes, as a share of float32's
    <model>_<profile>_speed       float32's median time divided by the profile's, at 64 tokens
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks import real_data, real_run
from bundle import archive, manifest
from bundle.manifest import EDGE_MODEL_FILE, Profile
from bundle.preprocess import Tensors
from bundle.repository import ModelRepository
from finetune import pipeline
from finetune.errors import FinetuneError
from finetune.export import candidate, edge_bundle, gate
from finetune.export.candidate import Candidate
from finetune.progress import Progress
from tensorseek import quickstart
from tensorseek.progress import TerminalProgress

_PROFILES: tuple[Profile, ...] = ("float32", "dynamic_int8", "full_int8", "mixed_int8")
_TOKENS = 64
_ROUNDS, _CALLS = 20, 10

Figures = dict[str, float]


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    figures: Figures = {}
    try:
        for name, models in _trained(progress).items():
            figures |= _measure(name, ModelRepository(models), progress)
    except FinetuneError as error:
        sys.exit(f"benchmarks.edge_accuracy: {error}")
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"benchmark": "edge_accuracy", **rounded}))


def _trained(progress: Progress) -> Mapping[str, Path]:
    """The models, each with the repository that holds it."""
    recipe = quickstart.movie_sentiment(Path("data"), progress)
    pipeline.run(recipe, models=Path("models"), runs=Path("runs"), progress=progress)
    real_run.run("banking77", real_data.banking77, encoder=True)
    real_run.run("clothing", real_data.clothing)
    real = Path("build", "benchmarks", "models")
    return {recipe.name: Path("models"), "banking77": real, "clothing": real}


def _measure(name: str, repository: ModelRepository, progress: Progress) -> Figures:
    saved = repository.load(name)
    trained = candidate.of_version(saved, progress)
    content = {}
    figures: Figures = {}
    for profile in _PROFILES:
        path = edge_bundle.publish(repository, saved, trained, profile, progress)
        files = archive.unpack(path)
        content[profile] = files[EDGE_MODEL_FILE]
        edge = manifest.decode(files[manifest.FILE_NAME], str(path)).edge
        for figure in ("drop", "drop_high", "agreement"):
            found = edge.evaluation[figure] if edge else float("nan")
            figures[f"{name}_{profile}_{figure}"] = found
        figures[f"{name}_{profile}_size"] = len(content[profile]) / len(content["float32"])
    times = _times(content, trained)
    for profile, taken_ms in times.items():
        figures[f"{name}_{profile}_p50_ms"] = taken_ms
        figures[f"{name}_{profile}_speed"] = times["float32"] / taken_ms
    return figures


def _times(content: Mapping[Profile, bytes], trained: Candidate) -> dict[Profile, float]:
    """Median milliseconds of each profile."""
    task = trained.task
    models = {
        profile: gate.Quantized(model, task.preprocessor.spec) for profile, model in content.items()
    }
    example = _example(trained, models["float32"])
    taken: dict[Profile, list[float]] = {profile: [] for profile in models}
    for _ in range(_ROUNDS):
        for profile, model in models.items():
            model(example)
            for _ in range(_CALLS):
                start = time.perf_counter()
                model(example)
                taken[profile].append(1e3 * (time.perf_counter() - start))
    return {profile: statistics.median(each) for profile, each in taken.items()}


def _example(trained: Candidate, model: gate.Quantized) -> Tensors:
    """A test example: of a text, one that pads to 64 tokens."""
    for _, tensors in trained.task.batches(trained.data.test, 1):
        if model.signature(tensors) in ("pixels", f"tokens_{_TOKENS}"):
            return tensors
    raise ValueError(f"no test example pads to {_TOKENS} tokens")


if __name__ == "__main__":
    main()
