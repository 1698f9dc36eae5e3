"""Tensors → answers: the one place where logits become labels with scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import TensorSpec


class LabelScore(NamedTuple):
    """One label and its probability in [0, 1]."""

    label: str
    score: float


def real(values: NDArray[np.generic], spec: TensorSpec) -> NDArray[np.float32]:
    """The numbers that a tensor's values stand for, as its signature says."""
    numbers = np.asarray(values, np.float32)
    if spec.quantization is None:
        return numbers
    return (numbers - spec.quantization.zero_point) * np.float32(spec.quantization.scale)


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities along the last axis, in float32, stable for large logits.

    Args:
        logits: any float dtype, [..., C].

    Source:
        Goodfellow, Bengio, Courville: Deep Learning, section 4.1 (shift by the maximum).
    """
    shifted = logits.astype(np.float32)
    shifted -= shifted.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted, out=shifted)
    exponent /= exponent.sum(axis=-1, keepdims=True)
    return exponent


def rank_labels(logits: NDArray[np.floating], labels: Sequence[str]) -> list[list[LabelScore]]:
    """Labels of each row, the most probable first; equal scores keep the manifest's order.

    Args:
        logits: [B, C].
        labels: C names.
    """
    scores = softmax(logits)
    order = np.argsort(-scores, axis=-1, kind="stable")
    return [
        [LabelScore(labels[index], row[index]) for index in ranks]
        for row, ranks in zip(scores.tolist(), order.tolist(), strict=True)
    ]
