"""What quantization costs: accuracy, size and time of every profile, on three trained models.

command   TENSORSEEK_DATA=<folder> make bench-edge-accuracy   (trains what is not trained yet)
machine   2 cores, no GPU, LiteRT 2.3; other work kept them busy too
date      2026-11-25
result    drop in points / agreement / share of the size / speed

          model            float   dynamic_int8              full_int8                mixed_int8
          movie-sentiment  0.859   -0.28  0.997  0.256  3.2  -0.19  0.974  0.257  2.6  0.28  0.976
          banking77        0.907    0.00  0.997  0.257  2.8   0.49  0.975  0.257  2.5  0.06  0.974
          clothing         0.507   -0.44  0.996  0.259  3.0   0.00  0.964  0.265  2.1 -0.89  0.978

          The islands of mixed_int8 are the norms' MEAN, SUB, RSQRT and MUL, of banking77 ADD. In
          full_int8 a photo goes in as uint8 and logits come out so: 0.46 ms, in float 0.97.

Each profile is made as by `tensorseek export --edge`, all choices on the dev split, and judged
on the whole test split. Times are of one thread and alternate between the profiles, so that a drift
of the machine meets all alike.

    <model>_<profile>_drop        accuracy of float minus that of the profile: 0.01 is one point
    <model>_<profile>_agreement   share of test examples with the float model's label
    <model>_<profile>_size        bytes, as a share of float32's
    <model>_<profile>_speed       float32's median time divided by the profile's, at the last length
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping

from benchmarks import edge_models
from bundle import archive, manifest
from bundle.manifest import EDGE_MODEL_FILE, Profile
from bundle.preprocess import Tensors
from bundle.repository import ModelRepository, SavedBundle
from finetune.errors import FinetuneError
from finetune.export import candidate, edge_bundle, gate, lengths
from finetune.export.candidate import Candidate
from finetune.progress import Progress
from tensorseek.progress import TerminalProgress

_PROFILES: tuple[Profile, ...] = ("float32", "dynamic_int8", "full_int8", "mixed_int8")
_ROUNDS, _CALLS = 20, 10

Figures = dict[str, float]


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    figures: Figures = {}
    try:
        for repository, saved in (
            edge_models.movies(progress),
            edge_models.banking77(),
            edge_models.clothing(),
        ):
            figures |= _measure(repository, saved, progress)
    except FinetuneError as error:
        sys.exit(f"benchmarks.edge_accuracy: {error}")
    rounded = {name: round(value, 4) for name, value in figures.items()}
    print(json.dumps({"benchmark": "edge_accuracy", **rounded}))


def _measure(repository: ModelRepository, saved: SavedBundle, progress: Progress) -> Figures:
    name = saved.manifest.name
    trained = lengths.for_device(candidate.of_version(saved, progress))
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
    example = _example(trained)
    taken: dict[Profile, list[float]] = {profile: [] for profile in models}
    for _ in range(_ROUNDS):
        for profile, model in models.items():
            model(example)
            for _ in range(_CALLS):
                start = time.perf_counter()
                model(example)
                taken[profile].append(1e3 * (time.perf_counter() - start))
    return {profile: statistics.median(each) for profile, each in taken.items()}


def _example(trained: Candidate) -> Tensors:
    """The test example that is the longest."""
    examples = (tensors for _, tensors in trained.task.batches(trained.data.test, 1))
    return max(examples, key=lambda tensors: next(iter(tensors.values())).size)


if __name__ == "__main__":
    main()
