"""A figure with its 95% confidence interval: what it is worth to have seen only n examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Metric

Counts = NDArray[np.int64]  # [N]: how often each example was drawn

_RESAMPLES = 1000
_TAIL_PERCENT = 2.5


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured figure."""

    value: float
    low: float  # 95% confidence interval
    high: float
    n: int  # examples

    def metric(self, data_sha256: str) -> Metric:
        """The figure as a manifest holds it."""
        return Metric(
            value=self.value, n=self.n, data_sha256=data_sha256, low=self.low, high=self.high
        )


def share(hits: int, n: int) -> Estimate:
    """The share of `hits` in `n`, with its Wilson interval."""
    low, high = wilson(hits, n)
    return Estimate(value=hits / n, low=low, high=high, n=n)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95% confidence interval of a share of `hits` in `n`.

    Source:
        Wilson (1927), the score interval; Brown, Cai, DasGupta: Interval Estimation for a
        Binomial Proportion (2001), section 3.1.1.
    """
    z = 1.959964
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def bootstrap(statistic: Callable[[Counts], float], n: int, *, seed: int = 0) -> Estimate:
    """A figure of n examples, with the 95% percentile interval over 1000 resamples of them.

    The interval is widened to hold the figure itself: a biased one, such as a calibration error
    near 0, may lie below nearly all of its resamples. A figure without any error has no width:
    its resamples have no error either.

    Args:
        statistic: the figure, when each example counts as often as its argument [n] says.
        seed: of the resamples; the same seed gives the same interval.

    Source:
        Efron and Tibshirani: An Introduction to the Bootstrap (1993), section 13.3.
    """
    generator = np.random.default_rng(seed)
    values = [
        statistic(np.bincount(generator.integers(n, size=n), minlength=n))
        for _ in range(_RESAMPLES)
    ]
    value = statistic(np.ones(n, np.int64))
    low, high = np.percentile(values, [_TAIL_PERCENT, 100 - _TAIL_PERCENT])
    return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)), n=n)
