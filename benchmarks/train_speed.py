"""How fast the movie-sentiment recipe trains, against Keras and against PyTorch.

command   make bench-train-speed      (fetches encoder and data, and PyTorch on its first run)

Every contender fine-tunes the same encoder on the same sentences with the same batch size, rates
and number of threads, in a process of its own; their rounds alternate. A round trains two epochs
over some of the sentences and takes the second one's time: data, steps and updates, without the
first epoch's compilations. Then each trains as the recipe says, over all sentences, once.

    ratio_tf_keras           ours to `tf_keras` `fit`, in float32, padded to the most tokens
    ratio_pytorch            ours to transformers' PyTorch Trainer with dynamic padding
    ratio_pytorch_grouped    ours to the same with `group_by_length`
    accuracy                 ours, on the test split
    *_examples_per_s         median over the rounds
    *_whole_examples_per_s   of the whole training: compilations too, but no evaluation
    *_accuracy               of the whole training

PyTorch trains in float32, which is its default, and in bfloat16; the ratios take the faster. Ours
computes in what `precision: auto` chooses. Keras and PyTorch have transformers' own head, of one
layer; ours has one layer more.

Measured in November 2026 on two cores of an AMD EPYC with AVX512-BF16, idle but for this (the whole
trainings shared it, so their speeds say little, their accuracies all):

    ratio_tf_keras 3.29   ratio_pytorch 1.84 (of bfloat16)   ratio_pytorch_grouped 1.05 (bfloat16)
    examples/s: ours 106.5, tf_keras 32.4, PyTorch 37.2 in float32 and 57.8 in bfloat16, grouped
    68.0 and 101.9; accuracy 0.868, 0.870, 0.863 (dynamic padding), 0.862 (grouped)

One step, in CPU milliseconds of one thread (32 sentences of 32 tokens): ours 471, of which the
update takes 50; PyTorch 492 in bfloat16 and 844 in float32. Against grouped bfloat16 nearly all of
it is the same matrix products in oneDNN. What made up for TensorFlow's smaller ops: GELU by `erf`
as one XLA program each way (-31 of 502), dropout masks of 16 bits an element, an update fused by
XLA. Differentiating the summed loss instead of the mean changed nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import torch_environment
from benchmarks.speed_job import Job
from bundle import atomic
from finetune.progress import Progress
from tensorseek import quickstart
from tensorseek.progress import TerminalProgress

_OUT = Path("build", "train-speed")
_ROUNDS = 3
_EXAMPLES = 1536  # of an epoch of a round
_DEV = 64
_SEED = 7

Run = dict[str, Any]


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    jobs = _jobs(progress)
    torch_environment.install(progress)
    runs: dict[str, list[Run]] = {name: [] for name in jobs}
    for _ in range(_ROUNDS):
        for name, job in jobs.items():
            with progress.timed(f"time {name}", expected_s=60):
                runs[name].append(_run(job))
    speed = {name: statistics.median(map(_steady, found)) for name, found in runs.items()}
    plain = max(("pytorch", "pytorch_bfloat16"), key=speed.__getitem__)
    grouped = max(("pytorch_grouped", "pytorch_grouped_bfloat16"), key=speed.__getitem__)
    whole = {}
    for name in ("ours", "tf_keras", plain, grouped):
        with progress.timed(f"train {name}", expected_s=300):
            whole[name] = _run(_whole(jobs[name]))
    figures = {
        "ratio_tf_keras": speed["ours"] / speed["tf_keras"],
        "ratio_pytorch": speed["ours"] / speed[plain],
        "ratio_pytorch_grouped": speed["ours"] / speed[grouped],
        "accuracy": whole["ours"]["accuracy"],
        **{f"{name}_examples_per_s": value for name, value in speed.items()},
        **{f"{name}_whole_examples_per_s": _whole_speed(run) for name, run in whole.items()},
        **{f"{name}_accuracy": run["accuracy"] for name, run in whole.items()},
    }
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"benchmark": "train_speed", **rounded}))


def _jobs(progress: Progress) -> dict[str, Job]:
    """Each contender's, for the rounds."""
    recipe = quickstart.movie_sentiment(Path("data"), progress)
    _sample(recipe.data.train, _OUT / "train.jsonl", _EXAMPLES)
    _sample(recipe.data.dev, _OUT / "dev.jsonl", _DEV)
    ours = Job(
        contender="ours",
        recipe=str(quickstart.RECIPE),
        encoder=str(recipe.base_model),
        train=str(_OUT / "train.jsonl"),
        dev=str(_OUT / "dev.jsonl"),
        test=None,
        labels=list(recipe.data.labels),
        max_tokens=recipe.data.buckets[-1],
        batch_size=recipe.data.batch_size,
        learning_rate=recipe.optimizer.learning_rate,
        weight_decay=recipe.optimizer.weight_decay,
        clip_norm=recipe.optimizer.clip_norm or 0.0,
        warmup=recipe.schedule.warmup,
        epochs=2,
        seed=recipe.seed,
        threads=os.cpu_count() or 1,
    )
    pytorch = dataclasses.replace(ours, contender="pytorch")
    grouped = dataclasses.replace(pytorch, grouped=True)
    return {
        "ours": ours,
        "tf_keras": dataclasses.replace(ours, contender="tf_keras"),
        "pytorch": pytorch,
        "pytorch_bfloat16": dataclasses.replace(pytorch, bfloat16=True),
        "pytorch_grouped": grouped,
        "pytorch_grouped_bfloat16": dataclasses.replace(grouped, bfloat16=True),
    }


def _sample(source: Path, target: Path, count: int) -> None:
    """Some of a split's lines, the same ones each time."""
    lines = source.read_bytes().splitlines(keepends=True)
    picked = random.Random(_SEED).sample(lines, count)  # noqa: S311 (no secret)
    atomic.write_bytes(target, b"".join(picked))


def _whole(job: Job) -> Job:
    """The recipe's own training, over all examples, with its test."""
    data = Path("data", "movie-sentiment")
    paths = {name: str(data / f"{name}.jsonl") for name in ("train", "dev", "test")}
    return dataclasses.replace(job, **paths)


def _run(job: Job) -> Run:
    if job.contender == "pytorch":
        script = Path(__file__).with_name("speed_pytorch.py")
        command = [str(torch_environment.PYTHON), str(script)]
    else:
        command = [sys.executable, "-m", "benchmarks.speed_tensorflow"]
    done = subprocess.run([*command, job.to_json()], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"benchmarks.train_speed: {job.contender}: {done.stderr[-2000:]}")
    found: Run = json.loads(done.stdout.splitlines()[-1])
    return found


def _steady(run: Run) -> float:
    """Examples a second once everything is compiled: in the last epoch."""
    return float(run["examples"] / run["epochs_s"][-1])


def _whole_speed(run: Run) -> float:
    """Examples a second from the first step to the last."""
    return float(run["examples"] * len(run["epochs_s"]) / sum(run["epochs_s"]))


if __name__ == "__main__":
    main()
