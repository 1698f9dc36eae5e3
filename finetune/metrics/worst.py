"""The examples that a model got most wrong: where its data or the model itself is at fault."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finetune.metrics.classification import softmax

COUNT = 20


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An example for a person."""

    content: str  # the text, or which picture it is
    picture: bytes | None = None  # encoded, small


Show = Callable[[int], Shown]  # by its index in the data


@dataclass(frozen=True, kw_only=True)
class WrongAnswer:
    """An example that a classifier gave another label than it has."""

    index: int  # in the data, from 0
    shown: Shown
    label: str
    label_probability: float
    answer: str
    answer_probability: float


@dataclass(frozen=True, kw_only=True)
class HardSequence:
    """A sequence that surprised a language model."""

    index: int  # in the data, from 0
    shown: Shown
    tokens: int
    perplexity: float


def wrong_answers(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str],
    show: Show,
) -> tuple[WrongAnswer, ...]:
    """The wrong answers that gave their examples' labels the least probability.

    Args:
        logits: [N, C].
        labels: [N].
        names: of the C labels.
    """
    probabilities = softmax(logits)
    answers = logits.argmax(-1)
    given = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(answers != labels)
    ranked = wrong[np.argsort(given[wrong], kind="stable")][:COUNT]
    return tuple(
        WrongAnswer(
            index=int(index),
            shown=show(int(index)),
            label=names[labels[index]],
            label_probability=float(given[index]),
            answer=names[answers[index]],
            answer_probability=float(probabilities[index, answers[index]]),
        )
        for index in ranked
    )


def hard_sequences(
    nll: NDArray[np.float64], tokens: NDArray[np.integer], show: Show
) -> tuple[HardSequence, ...]:
    """The sequences with the highest perplexity; `nll` and `tokens` as of `language.measure`."""
    loss = nll / np.maximum(tokens, 1)
    ranked = np.argsort(-loss, kind="stable")[:COUNT]
    return tuple(
        HardSequence(
            index=int(index),
            shown=show(int(index)),
            tokens=int(tokens[index]),
            perplexity=float(np.exp(loss[index])),
        )
        for index in ranked
        if tokens[index]
    )
