"""Learning rate over steps: linear warm-up, then a decay, continuous at the joint.

peak   ─     ╱‾‾╲        cosine       ½ (1 + cos πt)
            ╱    ╲       linear       1 − t
           ╱      ╲      polynomial   (1 − t)^power
floor  ─  ╱        ╲__   constant     1
          0  warmup  total   steps    t runs from 0 at the joint to 1 at the end
"""

from __future__ import annotations

import math
from typing import Any, Literal

import tensorflow as tf
import tf_keras

Kind = Literal["cosine", "linear", "polynomial", "constant"]


class Warmup(tf_keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Rises from 0 to `peak` in `warmup_steps`, then falls as `kind` says until `total_steps`.

    Args:
        kind: how it falls.
        peak: the highest learning rate, reached at step `warmup_steps`.
        floor: the learning rate at `total_steps` and after; a constant one stays at the peak.
        warmup_steps: optimizer steps of the linear part.
        total_steps: optimizer steps of both parts.
        power: of the polynomial.

    Source:
        Loshchilov and Hutter: SGDR, equation 5, one cycle (arXiv 1608.03983); linear warm-up as
        Goyal et al., section 2.2 (arXiv 1706.02677).
    """

    def __init__(
        self,
        kind: Kind,
        *,
        peak: float,
        floor: float,
        warmup_steps: int,
        total_steps: int,
        power: float = 2.0,
    ) -> None:
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(f"warmup_steps {warmup_steps} must be 0 to total_steps {total_steps}")
        self.kind = kind
        self.peak = peak
        self.floor = floor
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.power = power

    def __call__(self, step: Any) -> Any:
        """The learning rate, a float32 scalar, at optimizer step `step` (0 is the first)."""
        step = tf.cast(step, tf.float32)
        rising = self.peak * step / max(self.warmup_steps, 1)
        span = max(self.total_steps - self.warmup_steps, 1)
        t = tf.clip_by_value((step - self.warmup_steps) / span, 0.0, 1.0)
        falling = self.floor + (self.peak - self.floor) * self._share(t)
        return tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))

    def _share(self, t: Any) -> Any:
        """What is left of the way from floor to peak: 1 at t = 0, and 0 at t = 1 if it falls."""
        if self.kind == "cosine":
            return 0.5 * (1.0 + tf.cos(math.pi * t))
        if self.kind == "linear":
            return 1.0 - t
        if self.kind == "polynomial":
            return (1.0 - t) ** self.power
        return tf.ones_like(t)
