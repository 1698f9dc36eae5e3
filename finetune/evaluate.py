"""Runs a model over a split, and keeps what it answered."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.manifest import Metric
from bundle.preprocess import Tensors
from finetune.metrics import classification, language
from finetune.metrics.classification import ClassificationResult
from finetune.metrics.language import LanguageResult
from finetune.progress import Progress
from finetune.tasks.base import Task


@dataclass(frozen=True)
class Classified:
    """A classifier's answers to N examples."""

    logits: NDArray[np.float32]  # [N, C]
    labels: NDArray[np.int32]  # [N]: what they are
    names: Sequence[str]  # of the C labels

    @property
    def score(self) -> float:
        """Accuracy."""
        return float((self.logits.argmax(-1) == self.labels).mean())

    @property
    def is_finite(self) -> bool:
        """Whether every logit is a number."""
        return bool(np.isfinite(self.logits).all())

    def metrics(self, data_sha256: str) -> dict[str, Metric]:
        """What a manifest says of it."""
        return self.details().to_metrics(data_sha256)

    def details(self) -> ClassificationResult:
        """Every figure."""
        return classification.measure(self.logits, self.labels, self.names)


@dataclass(frozen=True)
class Modelled:
    """How likely a language model thought N sequences."""

    nll: NDArray[np.float64]  # [N]: nats, summed over a sequence's predicted tokens
    tokens: NDArray[np.int64]  # [N]: how many were predicted

    @property
    def score(self) -> float:
        """Mean log-likelihood of a token, in nats."""
        return -float(self.nll.sum() / self.tokens.sum())

    @property
    def is_finite(self) -> bool:
        """Whether every likelihood is a number."""
        return bool(np.isfinite(self.nll).all())

    def metrics(self, data_sha256: str) -> dict[str, Metric]:
        """What a manifest says of it."""
        return self.details().to_metrics(data_sha256)

    def details(self) -> LanguageResult:
        """Every figure."""
        return language.measure(self.nll, self.tokens)


def predict(
    task: Task, model: Any, split: Any, *, progress: Progress, title: str, batch_size: int = 64
) -> NDArray[np.float32]:
    """The answers [N, C] to every example, in the split's order."""
    forward = _answering(task, model)  # type: ignore[arg-type]  # tasks hash by identity
    rows: dict[int, NDArray[np.float32]] = {}
    with progress.counted(title, len(split)) as advance:
        for places, inputs in task.batches(split, batch_size):
            answers = forward(_tensors(inputs)).numpy()
            rows.update(zip(places, answers, strict=True))
            advance(len(places))
    return np.stack([rows[place] for place in range(len(split))])


def likelihood(
    task: Task, model: Any, split: Any, *, progress: Progress, title: str, batch_size: int = 16
) -> Modelled:
    """How likely a language model thinks each sequence of a split, in its order."""
    nll = np.zeros(len(split), np.float64)
    tokens = np.zeros(len(split), np.int64)
    with progress.counted(title, len(split)) as advance:
        for places, inputs in task.batches(split, batch_size):
            forward = _judging(task, model, tuple(inputs))  # type: ignore[arg-type]  # likewise
            nll[list(places)], tokens[list(places)] = forward(_tensors(inputs))
            advance(len(places))
    return Modelled(nll, tokens)


# Tracing takes seconds, and a training evaluates after each epoch: the last one is kept.
@functools.lru_cache(maxsize=1)
def _answering(task: Task, model: Any) -> Any:
    return tf.function(
        lambda inputs: task.answer(model, inputs), input_signature=[_signature(task)]
    )


@functools.lru_cache(maxsize=1)
def _judging(task: Task, model: Any, names: tuple[str, ...]) -> Any:
    def forward(inputs: Any) -> Any:
        batch = inputs | {"weights": tf.ones(tf.shape(inputs["input_ids"])[:1])}
        losses = task.loss(task.logits(model, batch, training=False), batch)
        weights = task.weights(batch)
        return tf.reduce_sum(losses * weights, axis=1), tf.reduce_sum(weights, axis=1)

    per_token = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in names}
    return tf.function(forward, input_signature=[per_token])


def _signature(task: Task) -> dict[str, Any]:
    spec = task.preprocessor.spec
    return {
        name: tf.TensorSpec([None, *spec.shape], dtype, name=name)
        for name, dtype in spec.inputs.items()
    }


def _tensors(inputs: Tensors) -> dict[str, Any]:
    return {name: tf.constant(values) for name, values in inputs.items()}
