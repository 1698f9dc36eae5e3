"""A model for the edge that its gate let pass, with all that its bundle tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.golden import Golden
from bundle.manifest import Attempt, Calibration, Generation


@dataclass(frozen=True, kw_only=True)
class Converted:
    """See the module.

    Args:
        model: the TFLite file.
        evaluation: its figures beside the float model's.
    """

    model: bytes
    golden: Golden
    evaluation: dict[str, float]
    islands: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    calibration: Calibration | None = None
    generation: Generation | None = None


# What equal float models may differ by between two machines' kernels.
_FLOAT_TOLERANCE = 1e-2
# Two runtimes round int8 differently, which changes as much as rounding did at all: of as many
# logits as golden examples have, the largest change is some four times the usual one.
_TIMES_USUAL = 5.0


def tolerance(usual_difference: float) -> float:
    """What a golden logit may differ by on a device.

    Args:
        usual_difference: of a logit from the float model's, root mean square.
    """
    return max(_TIMES_USUAL * usual_difference, _FLOAT_TOLERANCE)
