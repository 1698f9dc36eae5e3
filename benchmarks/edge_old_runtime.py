"""Does tflite-runtime 2.14, the last of its name, answer as LiteRT, or say why it does not?

command   make bench-edge-old-runtime   (trains the quickstart's model unless it is there, and
                                        fetches the runtime on its first run)
machine   2 cores, no GPU; other work kept them busy too
date      2026-11-25
result    float32_agreement 1.0, full_int8_agreement 0.972, accuracy 0.856 (LiteRT 0.861, float
          0.859); dynamic_int8 is refused: "tflite-runtime 2.14.0 is too old: this dynamic_int8
          model needs ops of TFLite 2.17.0. Install ai-edge-litert, or use a float32 or full_int8
          bundle." LiteRT without its CPU delegate agrees with LiteRT no better, 0.973: kernels
          round int8 differently.

Our edge runner opens each bundle in an environment of its own, whose only runtime is the old one,
and answers the whole test split.

    float32_agreement     share of test sentences with the same label as in LiteRT
    float32_accuracy      in the old runtime, and in LiteRT
    full_int8_agreement   the same of full_int8, and so on: its kernels round otherwise
    dynamic_int8_refusal  the sentence with which the runner refuses the bundle
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import edge_models, edge_old_runtime_job
from bundle.manifest import Profile
from bundle.repository import ModelRepository, SavedBundle
from edge.runner import EdgeRunner
from finetune.data import jsonl
from finetune.export import candidate, edge_bundle
from finetune.progress import Progress
from tensorseek.progress import TerminalProgress

_FOLDER = Path("build", "tflite-venv")
_TEST = Path("data", "movie-sentiment", "test.jsonl")
_PYTHON = _FOLDER / "bin" / "python"
_PINS = (
    "tflite-runtime==2.14.0",
    "numpy==1.26.4",
    "msgspec",
    "tokenizers",
    "cryptography",
    "pillow",
)
_RUN: tuple[Profile, ...] = ("float32", "full_int8")
_REFUSED: Profile = "dynamic_int8"


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    _install(progress)
    repository, saved = edge_models.movies(progress)
    bundles = _bundles(repository, saved, progress)
    test = jsonl.read(_TEST, saved.manifest.labels)
    texts, truth = test.texts, [saved.manifest.labels[index] for index in test.labels]
    figures: dict[str, Any] = {"sentences": len(texts)}
    for profile in _RUN:
        with progress.timed(f"ask {profile}", expected_s=60):
            told = _ask(bundles[profile], texts)
            if "error" in told:
                sys.exit(f"benchmarks.edge_old_runtime: {profile}: {told['error']}")
            expected = edge_old_runtime_job.labels(EdgeRunner.open(bundles[profile]), texts)
        figures["runtime"] = told["runtime"]
        figures[f"{profile}_agreement"] = _share(told["labels"], expected)
        figures[f"{profile}_accuracy"] = _share(told["labels"], truth), _share(expected, truth)
    figures[f"{_REFUSED}_refusal"] = _ask(bundles[_REFUSED], texts[:1])["error"]
    print(json.dumps({"benchmark": "edge_old_runtime", **figures}))


def _share(labels: Sequence[str], others: Sequence[str]) -> float:
    """Of those that are equal."""
    return round(sum(map(str.__eq__, labels, others)) / len(labels), 4)


def _install(progress: Progress) -> None:
    """Makes the environment, unless it is there as it should be."""
    done, pins = _FOLDER / ".installed", "\n".join(_PINS)
    if done.is_file() and done.read_text() == pins:
        return
    with progress.timed("install tflite-runtime", expected_s=30):
        venv.create(_FOLDER, with_pip=True, clear=True)
        subprocess.run([str(_PYTHON), "-m", "pip", "install", "--quiet", *_PINS], check=True)
    done.write_text(pins)


def _bundles(
    repository: ModelRepository, saved: SavedBundle, progress: Progress
) -> dict[Profile, Path]:
    """The version's bundles, made unless they are there."""
    name, trained = saved.manifest.name, None
    found = {}
    for profile in (*_RUN, _REFUSED):
        found[profile] = repository.edge_path(name, saved.manifest.version, profile)
        if not found[profile].is_file():
            trained = trained or candidate.of_version(saved, progress)
            edge_bundle.publish(repository, saved, trained, profile, progress)
    return found


def _ask(bundle: Path, texts: Sequence[str]) -> dict[str, Any]:
    """What `edge_old_runtime_job` prints in the environment of the old runtime."""
    command = [str(_PYTHON), "-m", edge_old_runtime_job.__name__, str(bundle)]
    done = subprocess.run(
        command, input=json.dumps(list(texts)), capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
