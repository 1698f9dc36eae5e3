"""How fast our greedy decoding is, against PyTorch transformers' `generate` on the same weights.

command   make bench-decode-speed      (fetches PyTorch on its first run)

Two random models, a mixture of DeepSeek-V3's architecture and a dense one of Qwen2's, are saved
once and read by every contender, each in a process of its own with the same number of threads;
their rounds alternate. A round writes 256 new tokens after prompts of 16, once all is compiled.

    ratio_v3_b1       tokens a second, ours to PyTorch's, one text at a time; b8: eight at once
    *_tokens_per_s    median over the rounds, by contender and dtype of weights and computation

Each side is taken in the dtype in which it is faster. Where our time goes (Qwen2, one text): 85% in
products, which read 200 MB of weights a step in bfloat16, or 400 MB in float32, with all threads;
the rest in some 700 small operations. PyTorch multiplies one row by a float32 matrix with one
thread, and calls the experts of a mixture one after the other.

Result on 2 cores, idle, 2026-11-25 (ours in bfloat16, PyTorch's faster one is bfloat16 too):

    V3, 50M       1.83 with one text (98 tokens/s against 54), 1.87 with eight (352 against 188)
    Qwen2, 100M   1.13 with one text (48 tokens/s against 42), 1.49 with eight (293 against 197)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
import tf_keras

from benchmarks import decode_speed_job, torch_environment
from benchmarks.decode_speed_job import Job
from finetune.deepseek import checkpoint, config
from finetune.deepseek.decoder import CausalLM
from tensorseek.progress import TerminalProgress

_OUT = Path("build", "decode-speed")
_MODELS = {"v3": decode_speed_job.V3, "qwen2": decode_speed_job.QWEN2}
_DTYPES: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
_BATCHES = [1, 8]
_ROUNDS = 3

Speeds = dict[str, float]  # tokens a second, by the size of the batch


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    torch_environment.install(progress)
    runs: dict[tuple[str, str, str], list[Speeds]] = {}
    for job, key in [found for name in _MODELS for found in _jobs(name)] * _ROUNDS:
        with progress.timed(" ".join(("time", *key)), expected_s=60):
            runs.setdefault(key, []).append(_run(job))
    figures: dict[str, float] = {}
    for model in _MODELS:
        for batch in map(str, _BATCHES):
            speed = {
                key[1:]: statistics.median(run[batch] for run in found)
                for key, found in runs.items()
                if key[0] == model
            }
            best = {
                side: max(value for key, value in speed.items() if key[0] == side)
                for side in ("ours", "pytorch")
            }
            figures[f"ratio_{model}_b{batch}"] = best["ours"] / best["pytorch"]
            for (side, dtype), value in speed.items():
                figures[f"{side}_{dtype}_{model}_b{batch}_tokens_per_s"] = value
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"benchmark": "decode_speed", **rounded}))


def _jobs(model: str) -> list[tuple[Job, tuple[str, str, str]]]:
    """Each contender's, with what it is called."""
    folder = _OUT / model
    _save(_MODELS[model], folder)
    ours = Job(
        contender="ours",
        dtype="float32",
        folder=str(folder),
        batches=_BATCHES,
        prompt=16,
        new=256,
        seed=7,
        threads=os.cpu_count() or 1,
    )
    jobs = [
        replace(ours, contender=contender, dtype=dtype)
        for dtype in _DTYPES
        for contender in ("ours", "pytorch")
    ]
    return [(job, (model, job.contender, job.dtype)) for job in jobs]


def _save(content: dict[str, Any], folder: Path) -> None:
    tf_keras.utils.set_random_seed(7)
    model = CausalLM(config.parse(content))
    token = tf.ones([1, 1], tf.int32)
    model({"input_ids": token, "attention_mask": token})  # makes the weights
    checkpoint.save_pretrained(model, folder)


def _run(job: Job) -> Speeds:
    if job.contender == "pytorch":
        script = Path(__file__).with_name("decode_speed_pytorch.py")
        command = [str(torch_environment.PYTHON), str(script)]
    else:
        command = [sys.executable, "-m", "benchmarks.decode_speed_tensorflow"]
    done = subprocess.run([*command, job.to_json()], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmarks.decode_speed: {job.contender}: {done.stderr[-2000:]}")
    found: Speeds = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
