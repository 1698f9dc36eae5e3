"""What a report tells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from finetune.metrics.classification import ClassificationResult
from finetune.metrics.language import LanguageResult
from finetune.metrics.worst import HardSequence, WrongAnswer


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a training went."""

    losses: Sequence[float]  # [steps]: mean loss of each
    examples_per_s: float
    precision: str
    compilations: int  # shapes that forward and backward were traced for
    skipped_steps: int  # whose gradients overflowed
    best_epoch: int  # whose weights were kept, from 1
    dev_scores: Sequence[float] = ()  # [epochs]; none when there was but one epoch
    dev_measure: str = "accuracy"  # what the scores are
    learning_rates: Sequence[float] = ()  # [steps]

    def __post_init__(self) -> None:
        for name in ("losses", "dev_scores", "learning_rates"):
            for place, value in enumerate(getattr(self, name)):
                if not math.isfinite(value):
                    raise ValueError(f"{name}[{place}] is {value}; a curve needs finite values")
        if not self.losses:
            raise ValueError("losses is empty; give one for each step")

    @classmethod
    def of(cls, figures: Mapping[str, Any], dev_measure: str) -> Self:
        """The training that the record `trainer.Trained.figures` tells of."""
        return cls(
            losses=figures["losses"],
            examples_per_s=figures["examples_per_s"],
            precision=figures["policy"],
            compilations=figures["compilations"],
            skipped_steps=figures["skipped_steps"],
            best_epoch=figures["best_epoch"],
            dev_scores=figures["dev_scores"],
            dev_measure=dev_measure,
            learning_rates=figures.get("learning_rates", ()),  # older records lack them
        )


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """The content of a `report.html`."""

    title: str
    recipe: str  # the effective recipe, YAML
    data: str  # what it was tested on
    result: ClassificationResult | LanguageResult
    worst: Sequence[WrongAnswer] | Sequence[HardSequence]
    versions: Mapping[str, str]  # package → version
    training: Training | None = None  # None for a model that was only evaluated
