"""What a classifier's answers are worth.

    logits [N, C] ─► probabilities ─► answer ─────► confusion [C, C] ─► accuracy, F1, per class
    labels [N]             └────────► confidence ─► 15 bins ──────────► calibration error

`N` examples, `C` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Metric
from finetune.errors import EvaluationError
from finetune.metrics import interval
from finetune.metrics.interval import Counts, Estimate

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

BINS = 15


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How well one label is found; None where there is nothing to divide by."""

    label: str
    support: int  # examples with this label
    answers: int  # examples that were given this label
    precision: float | None
    recall: float | None
    f1: float | None  # None for a label that no example has


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The examples whose answer has a probability in (low, high]."""

    low: float
    high: float
    n: int
    confidence: float | None  # mean probability of the answers; None of no example
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class ClassificationResult:
    """Every figure of a classifier on one data set."""

    accuracy: Estimate
    macro_f1: Estimate  # mean F1 of the labels that the data has
    ece: Estimate  # expected calibration error
    classes: tuple[ClassScore, ...]  # C
    bins: tuple[Bin, ...]
    confusion: Indices  # [C, C]: row, the label an example has; column, the one it was given

    @property
    def absent(self) -> tuple[str, ...]:
        """Labels that no example has: they are left out of macro-F1."""
        return tuple(score.label for score in self.classes if not score.support)

    @property
    def figures(self) -> dict[str, Estimate]:
        """The figures that say it in short, by name."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "ece": self.ece}

    def to_metrics(self, data_sha256: str) -> dict[str, Metric]:
        """The figures that go into a manifest, by name."""
        return {name: figure.metric(data_sha256) for name, figure in self.figures.items()}


def measure(
    logits: NDArray[np.floating], labels: NDArray[np.integer], names: Sequence[str]
) -> ClassificationResult:
    """Measures answers [N, C] to N examples against the labels [N] that they have.

    Args:
        names: of the C labels.

    Raises:
        EvaluationError: an answer is not a number.
    """
    probabilities = softmax(logits)
    answers, confidence = logits.argmax(-1), probabilities.max(-1)
    n, count = len(labels), len(names)
    hits = answers == labels
    cells = labels.astype(np.int64) * count + answers
    bin_of = _bin_of(confidence)

    def macro_f1(drawn: Counts) -> float:
        right, support, answered = (
            np.bincount(of, weights, count)
            for of, weights in ((labels, drawn * hits), (labels, drawn), (answers, drawn))
        )
        return _macro_f1(right, support, answered)

    def ece(drawn: Counts) -> float:
        gaps = np.bincount(bin_of, drawn * (hits - confidence), BINS)
        return float(np.abs(gaps).sum() / n)

    confusion = np.bincount(cells, minlength=count * count).reshape(count, count)
    return ClassificationResult(
        accuracy=interval.share(int(hits.sum()), n),
        macro_f1=interval.bootstrap(macro_f1, n),
        ece=interval.bootstrap(ece, n),
        classes=_classes(confusion, names),
        bins=_bins(bin_of, confidence, hits),
        confusion=confusion,
    )


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Probabilities along the last axis, float64: as many digits as a calibration error needs.

    Raises:
        EvaluationError: a logit is not a number, or infinite.
    """
    wrong = np.flatnonzero(~np.isfinite(logits).all(-1))
    if len(wrong):
        raise EvaluationError(
            f"{len(wrong)} of {len(logits)} answers are not numbers, the first to example "
            f"{wrong[0]}: {logits[wrong[0]].tolist()[:4]}; train again with a lower "
            "optimizer.learning_rate"
        )
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    exponent = np.exp(shifted)
    return np.asarray(exponent / exponent.sum(-1, keepdims=True), np.float64)


def _macro_f1(right: NDArray[Any], support: NDArray[Any], answered: NDArray[Any]) -> float:
    """Mean over the labels with examples of 2 TP / (2 TP + FP + FN); each argument is [C].

    Source:
        Opitz and Burst: Macro F1 and Macro F1 (arXiv 1911.03347), equation 1, the mean of F1s.
    """
    here = support > 0
    return float((2 * right[here] / (support + answered)[here]).mean())


def _bin_of(confidence: Floats) -> Indices:
    """Which of the equal bins (m/15, (m+1)/15] of [0, 1] holds each confidence [N].

    Source:
        Guo et al.: On Calibration of Modern Neural Networks, section 2 (arXiv 1706.04599).
    """
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _bins(bin_of: Indices, confidence: Floats, hits: NDArray[np.bool_]) -> tuple[Bin, ...]:
    bins = []
    for place in range(BINS):
        inside = bin_of == place
        n = int(inside.sum())
        bins.append(
            Bin(
                low=place / BINS,
                high=(place + 1) / BINS,
                n=n,
                confidence=float(confidence[inside].mean()) if n else None,
                accuracy=float(hits[inside].mean()) if n else None,
            )
        )
    return tuple(bins)


def _classes(confusion: Indices, names: Sequence[str]) -> tuple[ClassScore, ...]:
    scores = []
    for place, name in enumerate(names):
        hits = int(confusion[place, place])
        support, answers = int(confusion[place].sum()), int(confusion[:, place].sum())
        scores.append(
            ClassScore(
                label=name,
                support=support,
                answers=answers,
                precision=hits / answers if answers else None,
                recall=hits / support if support else None,
                f1=2 * hits / (support + answers) if support else None,
            )
        )
    return tuple(scores)
