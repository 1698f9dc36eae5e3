"""Which token comes next: the most likely one, or one drawn from those that are likely enough.

    logits ─► temperature 0: the highest
           ─► / temperature ─► top k ─► top p ─► drawn

Source: Holtzman et al.: The Curious Case of Neural Text Degeneration, section 3.1, for top p (arXiv
1904.09751).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.errors import InputError

Choose = Callable[[NDArray[np.float32]], int]  # logits [C] → token


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a text is written.

    Args:
        max_new_tokens: after the prompt.
        temperature: 0 takes the most likely token; below 1 prefers likely ones more than the model.
        top_k: draw from the k most likely tokens only; 0 is no limit.
        top_p: draw from the fewest likely tokens that together have this probability.
        seed: the same one draws the same tokens; None for one of its own.
        stop: strings that end the text, which they are no part of.

    Raises:
        InputError: names the setting, its value and what it may be.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, is_right, rule in (
            ("max_new_tokens", self.max_new_tokens >= 1, "must be at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "must be 0 or more"),
            ("top_k", self.top_k >= 0, "must be 0 (no limit) or more"),
            ("top_p", 0 < self.top_p <= 1, "must be above 0 and at most 1"),
            ("seed", self.seed is None or self.seed >= 0, "must be 0 or more"),
            ("stop", all(self.stop), "must hold no empty string"),
        ):
            if not is_right:
                raise InputError(name, f"{getattr(self, name)!r} {rule}")

    def chooser(self) -> Choose:
        """Chooses the tokens of one text, one after the other."""
        generator = np.random.default_rng(self.seed)

        def choose(logits: NDArray[np.float32]) -> int:
            if self.temperature == 0:
                return int(logits.argmax())
            chances = self._chances(logits)
            return int(generator.choice(len(chances), p=chances))

        return choose

    def _chances(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The probability of each token to be drawn, float64 [C]."""
        wide = logits.astype(np.float64)
        powers = np.exp((wide - wide.max()) / self.temperature)
        order = np.argsort(-powers, kind="stable")
        ranked = powers[order]
        if self.top_k:
            ranked[self.top_k :] = 0
        ranked /= ranked.sum()
        better = np.cumsum(ranked) - ranked  # probability of all that are more likely
        ranked[better >= self.top_p] = 0
        chances: NDArray[np.float64] = np.empty_like(ranked)
        chances[order] = ranked / ranked.sum()
        return chances
