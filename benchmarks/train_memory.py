"""What gradient checkpointing saves, and what it costs, on a 12-block encoder at length 512.

command   make bench-train-memory
machine   2 cores, no GPU
date      2026-11-25
result    memory_ratio 0.442 (5,065 against 2,239 MB), step_ratio 1.24 (4.34 against 5.38 s),
          cpu_ratio 1.24

Each variant trains in processes of its own, in turn, so that one's memory is not the other's; the
step is the trainer's own, with dropout, loss and AdamW, in float32.

    memory_ratio   peak resident memory with checkpointing / without
    step_ratio     median seconds a step with checkpointing / without
    cpu_ratio      the same of processor seconds, which others on the machine disturb less
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import finetune  # noqa: F401 (chooses Keras 2, before TensorFlow is imported)

_BLOCKS, _TOKENS, _BATCH = 12, 512, 8
_WIDTH = 384
_ROUNDS, _STEPS = 2, 4


def main() -> None:
    """Measures, and prints one JSON line."""
    found: dict[str, list[dict[str, float]]] = {"kept": [], "recomputed": []}
    for _ in range(_ROUNDS):
        for variant, runs in found.items():
            command = [sys.executable, "-m", "benchmarks.train_memory", variant]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        variant: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for variant, runs in found.items()
    }
    kept, recomputed = medians["kept"], medians["recomputed"]
    figures = {
        "memory_ratio": recomputed["peak_mb"] / kept["peak_mb"],
        "step_ratio": recomputed["step_s"] / kept["step_s"],
        "cpu_ratio": recomputed["cpu_s"] / kept["cpu_s"],
        **{f"{variant}_{name}": of[name] for variant, of in medians.items() for name in of},
    }
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"benchmark": "train_memory", **rounded}))


def _measure(*, recomputes: bool) -> dict[str, float]:
    """Trains a few steps in this process."""
    import tf_keras  # noqa: PLC0415 (the parent needs no TensorFlow)

    from finetune import recompute  # noqa: PLC0415
    from finetune.distribution import Distribution  # noqa: PLC0415
    from finetune.dropout import DropoutSeed  # noqa: PLC0415
    from finetune.step import Step  # noqa: PLC0415

    task: Any = _Encoder()
    optimizer = tf_keras.optimizers.AdamW(1e-4)
    optimizer.build(task.model.trainable_variables)
    dropout = DropoutSeed(task.model, 0)
    if recomputes:
        recompute.checkpoint(task.model)
    step = Step(task, task.model, optimizer, dropout, Distribution(), clip_norm=1.0)
    float(step(task.batch, 0).loss)  # compiles
    times, cpu_times = [], []
    for number in range(1, _STEPS + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        float(step(task.batch, number).loss)
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    return {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "step_s": statistics.median(times),
        "cpu_s": statistics.median(cpu_times),
    }


class _Encoder:
    """A random BERT and one batch of full length, as a `Task` gives them to a `Step`."""

    def __init__(self) -> None:
        import numpy as np  # noqa: PLC0415
        import tensorflow as tf  # noqa: PLC0415
        from transformers import BertConfig, TFBertForSequenceClassification  # noqa: PLC0415

        self._tf = tf
        config = BertConfig(
            hidden_size=_WIDTH,
            num_hidden_layers=_BLOCKS,
            num_attention_heads=6,
            intermediate_size=4 * _WIDTH,
        )
        self.model = TFBertForSequenceClassification(config)
        generator = np.random.default_rng(0)
        self.batch = {
            "input_ids": tf.constant(generator.integers(0, 30000, (_BATCH, _TOKENS)), tf.int32),
            "attention_mask": tf.ones([_BATCH, _TOKENS], tf.int32),
            "labels": tf.constant(generator.integers(0, 2, _BATCH), tf.int32),
            "weights": tf.ones([_BATCH]),
        }
        inputs = {name: self.batch[name][:1, :8] for name in ("input_ids", "attention_mask")}
        self.model(inputs)  # makes the weights

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        return model(inputs, training=training).logits

    def loss(self, logits: Any, batch: dict[str, Any]) -> Any:
        return self._tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], logits)

    def weights(self, batch: dict[str, Any]) -> Any:
        return batch["weights"]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_measure(recomputes=sys.argv[1] == "recomputed")))
    else:
        main()
