"""Does tflite-runtime 2.14, the last of its name, answer as LiteRT, or say why it does not?

command   make bench-edge-old-runtime   (trains the quickstart's model unless it is there, and
                                        fetches the runtime on its first run)
machine   2 cores, no GPU; other work kept them busy too
date      2026-11-25
result    float32_agreement 1.0, full_int8_agreement 0.9717, accuracy 0.8557 (LiteRT 0.8613, float
          0.8594); dynamic_int8 is refused: "tflite-runtime 2.14.0 is too old: this dynamic_int8
          model needs ops of TFLite 2.17.0. Install ai-edge-litert, or use a float32 or full_int8
          bundle." Of 1,060 sentences 30 have another label; LiteRT separates the two labels of the
          median one of them by 11 steps of int8, of the median sentence by 165.

Our edge runner opens each bundle in an environment of its own, whose only runtime is the old one,
and answers the whole test split.

    float32_agreement     share of test sentences with the same label as in LiteRT
    float32_accuracy      in the old runtime, and in LiteRT
    full_int8_agreement   the same of full_int8, and so on: its kernels round otherwise
    .._differing          sentences with another label
    .._within_a_step      of those, where LiteRT's two likeliest labels are one step apart, or none
    .._margins_in_steps   by how many they are apart: median and largest
    .._usual_margin_in_steps  the median of all sentences
    .._usual_change_in_steps  by how much a logit differs, root mean square
    dynamic_int8_refusal  the sentence with which the runner refuses the bundle

Why not the same labels: three kernels round otherwise, and an export can't choose them. Each op of
the bundle was run alone, on what ten sentences put into it, in LiteRT with its CPU delegate,
without it, and in the old runtime. Never did a number differ by more than one step; and it did

    FULLY_CONNECTED    in 0.157% of 6.4 million numbers    delegate against both others
    MUL                in 0.318% of 3.0 million            likewise
    BATCH_MATMUL       in 0.414% of 1.5 million            delegate against LiteRT without it
                       in 0.456%                           the old runtime against that
    SUB                in 13 of 1.5 million                delegate against both others

and in none of all other ops. By their sources, the delegate multiplies by a scale in float32 and
rounds halves to the even number, the others by a 31-bit integer and round them up. Scales that are
powers of two would make both exact but for halves, which would be as frequent (reckoned, not
tried). Through six blocks one step in some hundred numbers becomes 10 steps of a logit: the labels
that change are close calls, though only one is within a single step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import edge_models, edge_old_runtime_job
from bundle.manifest import Profile
from bundle.repository import ModelRepository, SavedBundle
from edge.runner import EdgeRunner
from finetune.data import jsonl
from finetune.export import candidate, edge_bundle
from finetune.progress import Progress
from tensorseek.progress import TerminalProgress

Floats = NDArray[np.float64]

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
    texts, truth = test.texts, np.asarray(test.labels)
    figures: dict[str, Any] = {"sentences": len(texts)}
    for profile in _RUN:
        with progress.timed(f"ask {profile}", expected_s=60):
            told = _ask(bundles[profile], texts)
            if "error" in told:
                sys.exit(f"benchmarks.edge_old_runtime: {profile}: {told['error']}")
            runner = EdgeRunner.open(bundles[profile])
            expected = np.asarray(edge_old_runtime_job.logits(runner, texts))
        figures["runtime"] = told["runtime"]
        compared = _compared(np.asarray(told["logits"]), expected, truth, _step(runner))
        figures |= {f"{profile}_{name}": each for name, each in compared.items()}
    figures[f"{_REFUSED}_refusal"] = _ask(bundles[_REFUSED], texts[:1])["error"]
    print(json.dumps({"benchmark": "edge_old_runtime", **figures}))


def _compared(found: Floats, expected: Floats, truth: NDArray[Any], step: float) -> dict[str, Any]:
    """Figures of the old runtime's logits [N, C] beside LiteRT's; see the module."""
    same = found.argmax(-1) == expected.argmax(-1)
    ranked = np.sort(expected, axis=-1)
    margins = ranked[:, -1] - ranked[:, -2]
    figures: dict[str, Any] = {
        "agreement": round(float(same.mean()), 4),
        "accuracy": [
            round(float((each.argmax(-1) == truth).mean()), 4) for each in (found, expected)
        ],
    }
    if step and not same.all():
        steps = np.round(margins[~same] / step)
        figures["differing"] = int((~same).sum())
        figures["within_a_step"] = int((steps <= 1).sum())
        figures["margins_in_steps"] = [int(each) for each in np.percentile(steps, [50, 100])]
        figures["usual_margin_in_steps"] = round(float(np.median(margins / step)))
        changed = np.abs(found - expected) / step
        figures["usual_change_in_steps"] = round(float(np.sqrt(np.square(changed).mean())), 1)
    return figures


def _step(runner: EdgeRunner) -> float:
    """What one step of int8 logits stands for; 0 of float ones."""
    outputs = next(iter(runner.manifest.signatures.values())).outputs
    return outputs[0].quantization.scale if outputs[0].quantization else 0.0


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
