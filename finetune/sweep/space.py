"""What a sweep tries: a YAML file of the recipe's keys and their values.

grid:                                       random:
  optimizer.learning_rate: [1e-4, 5e-5]       trials: 20
  schedule.epochs: [1, 2]                     ranges:
                                                optimizer.learning_rate: {log_uniform: [1e-5, 1e-3]}
                                                head.dropout: {uniform: [0, 0.3]}
                                                data.batch_size: {choice: [16, 32]}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from finetune import section
from finetune.section import Section

Metric = Literal["score", "accuracy", "macro_f1", "ece", "perplexity"]
Values = dict[str, Any]  # dotted key of a recipe → its value

_LOWER_IS_BETTER = ("ece", "perplexity")
_DIGITS = 4  # of a drawn number: more would promise a precision that no sweep has

Bounds = tuple[float, float]
Choices = Annotated[tuple[Any, ...], Field(min_length=1)]


class Range(Section):
    """Where a value is drawn from: give one of the three."""

    uniform: Bounds | None = None
    log_uniform: Bounds | None = None  # evenly between the logarithms
    choice: Choices | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(f"give one of uniform, log_uniform and choice, not {len(given)}")
        bounds = self.uniform or self.log_uniform
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"the first bound must be under the second, not {list(bounds)}")
        if self.log_uniform and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform needs bounds over 0, not {list(self.log_uniform)}")
        return self

    def draw(self, generator: np.random.Generator) -> Any:
        """A value."""
        if self.choice is not None:
            return self.choice[generator.integers(len(self.choice))]
        if self.uniform is not None:
            return _short(generator.uniform(*self.uniform))
        low, high = self.log_uniform or (1.0, 1.0)
        return _short(math.exp(generator.uniform(math.log(low), math.log(high))))


class Random(Section):
    """Values drawn anew for each trial."""

    trials: Annotated[int, Field(ge=1, le=10_000)]
    seed: Annotated[int, Field(ge=0)] = 0
    ranges: Annotated[dict[str, Range], Field(min_length=1)]


class Space(Section):
    """The trials, and the figure on the dev split that ranks them: give grid or random."""

    metric: Metric = "score"  # accuracy; of a language model, the log-likelihood of a token
    grid: Annotated[dict[str, Choices], Field(min_length=1)] | None = None
    random: Random | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.grid is None) == (self.random is None):
            raise ValueError("give either grid or random")
        return self

    @property
    def lower_is_better(self) -> bool:
        """Whether a small figure wins."""
        return self.metric in _LOWER_IS_BETTER

    def trials(self) -> Iterator[Values]:
        """What each trial sets; the same ones each time, and no first ones change with more."""
        if self.grid is not None:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))
        if self.random is not None:
            generator = np.random.default_rng(self.random.seed)
            for _ in range(self.random.trials):
                yield {key: each.draw(generator) for key, each in self.random.ranges.items()}


def load(path: Path) -> Space:
    """Reads a sweep.

    Raises:
        RecipeError: names the file, the key, its value and the fix.
    """
    return section.check(Space, section.read(path, "sweep"), str(path))


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
