"""Two contenders of `train_speed`: our trainer, and plain `tf_keras` `fit`.

Run as a module with a `speed_job.Job` as JSON; prints how it went as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras
from transformers import TFAutoModelForSequenceClassification

from benchmarks.speed_job import Job
from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from finetune import recipe as recipes
from finetune import tasks, trainer
from finetune.data import jsonl
from finetune.progress import Advance, Silent
from finetune.schedule import Warmup


def main(job: Job) -> dict[str, Any]:
    """Trains as the job says."""
    tf.config.threading.set_intra_op_parallelism_threads(job.threads)
    return _ours(job) if job.contender == "ours" else _keras(job)


class _Clock(Silent):
    """Takes each training epoch's time, as the trainer tells of its progress."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[Advance]:
        start = time.perf_counter()
        with super().counted(title, total) as advance:
            yield advance
        if title.startswith("train"):
            self.seconds.append(time.perf_counter() - start)


def _ours(job: Job) -> dict[str, Any]:
    parts = {"train": job.train, "dev": job.dev, "test": job.test or job.dev}
    overrides = [f"data.{name}={path}" for name, path in parts.items()]
    overrides += [f"base_model={job.encoder}", f"schedule.epochs={job.epochs}"]
    recipe = recipes.load(Path(job.recipe), overrides)
    task, clock = tasks.create(recipe), _Clock()
    data = task.load_data()
    trained = trainer.train(task, recipe, data, clock)
    accuracy = None
    if job.test:
        accuracy = task.measure(trained.model, data.test, progress=clock, title="test").score
    return {"examples": len(data.train), "epochs_s": clock.seconds, "accuracy": accuracy}


class _EpochTimes(tf_keras.callbacks.Callback):  # type: ignore[misc]
    """Takes each epoch's time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.seconds.append(time.perf_counter() - self._start)


def _keras(job: Job) -> dict[str, Any]:
    """Every batch padded to the most tokens, in float32, as transformers' TF example does."""
    tf_keras.utils.set_random_seed(job.seed)
    inputs, labels = _padded(job, job.train)
    model = TFAutoModelForSequenceClassification.from_pretrained(
        job.encoder, num_labels=len(job.labels)
    )
    steps = -(-len(labels) // job.batch_size) * job.epochs
    rate = Warmup(
        "cosine",
        peak=job.learning_rate,
        floor=0.0,
        warmup_steps=round(steps * job.warmup),
        total_steps=steps,
    )
    model.compile(
        tf_keras.optimizers.AdamW(
            rate, weight_decay=job.weight_decay, epsilon=1e-8, global_clipnorm=job.clip_norm
        ),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(len(labels))
    times = _EpochTimes()
    batches = dataset.batch(job.batch_size).prefetch(tf.data.AUTOTUNE)
    model.fit(batches, epochs=job.epochs, callbacks=[times], verbose=0)
    accuracy = None
    if job.test:
        inputs, answers = _padded(job, job.test)
        logits = model.predict(inputs, batch_size=64, verbose=0).logits
        accuracy = float((logits.argmax(-1) == answers).mean())
    return {"examples": len(labels), "epochs_s": times.seconds, "accuracy": accuracy}


def _padded(job: Job, path: str) -> tuple[dict[str, Any], Any]:
    spec = TextPreprocess(buckets=(job.max_tokens,), pad_id=0, max_characters=10_000)
    preprocessor = TextPreprocessor(Path(job.encoder, "tokenizer.json").read_bytes(), spec)
    examples = jsonl.read(Path(path), job.labels)
    return preprocessor(list(examples.texts)), tf.constant(examples.labels).numpy()


if __name__ == "__main__":
    print(json.dumps(main(Job(**json.loads(sys.argv[1])))))
