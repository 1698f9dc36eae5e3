"""How far a tensor's int8 should reach: the least that rounding and cutting off cost together.

    error²   ▏╲                      ╱  rounding: grows with the step, which grows with the reach
             ▏ ╲                 ╱
             ▏  ╲            ╱
             ▏   ╲__     ╱
             ▏      ╲_╱  cutting off: what lies beyond the reach is as large as that
             ╰───────┴──────────────── reach

A number is counted by its exponent and three digits after it, so that many examples fit in memory.

Source:
    Banner et al.: Post Training 4-bit Quantization of Convolutional Networks for Rapid-deployment,
    section 3 (arXiv 1810.05723), on the two errors; here both are counted, not derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from finetune.export import ranges
from finetune.export.ranges import Observed, Place, Range, Ranges

_STEPS = 8  # to an octave
_DIGITS = 20  # of a float32, that are not told apart
_FINITE = 255 << 3  # kinds of them; infinities have the largest exponent
_SIZES = (
    ((np.arange(_FINITE, dtype=np.int32) << _DIGITS) + (1 << (_DIGITS - 1)))
    .view(np.float32)
    .astype(np.float64)
)
_LEAST = 1 / 8  # of the largest number: a shorter reach is not tried
_LEVELS = 255


@dataclass
class Counted(Observed):
    """What one tensor held, with how many numbers of each size."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_FINITE, np.int64))

    def add(self, values: NDArray[np.float32]) -> None:
        """See `Observed.add`."""
        super().add(values)
        kinds = (np.abs(values).view(np.int32) >> _DIGITS).ravel()
        self.counts += np.bincount(kinds, minlength=_FINITE)[:_FINITE]


def fitted(model: bytes, observed: Mapping[Place, Counted]) -> Ranges:
    """The range of each tensor that costs least, within what `ranges.whole` gives."""
    known = ranges.whole(model, observed)
    reaches = {place: _reach(each, observed[place].counts) for place, each in known.items()}
    return {place: each.within(-reaches[place], reaches[place]) for place, each in known.items()}


def _reach(known: Range, counts: NDArray[np.int64]) -> float:
    largest = max(-known.low, known.high)
    tried = largest * 2.0 ** (-np.arange(-_STEPS * np.log2(_LEAST) + 1) / _STEPS)

    def error(reach: float) -> float:
        kept = known.within(-reach, reach)
        step = (max(kept.high, 0.0) - min(kept.low, 0.0)) / _LEVELS
        cut = np.maximum(_SIZES - reach, 0.0)
        return float(counts.sum() * step**2 / 12 + counts @ cut**2)

    return float(min(tried, key=error))
