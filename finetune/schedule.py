"""Learning rate over steps: linear warm-up, then cosine decay, continuous at the joint.

peak   ─     ╱‾‾╲
            ╱     ╲
floor  ─   ╱        ╲___
          0   warmup    total   steps
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras


class WarmupCosine(tf_keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Rises from 0 to `peak` in `warmup_steps`, falls on a cosine to `floor` at `total_steps`.

    Args:
        peak: the highest learning rate, reached at step `warmup_steps`.
        floor: the learning rate at `total_steps` and after.
        warmup_steps: optimizer steps of the linear part.
        total_steps: optimizer steps of both parts.

    Source:
        Loshchilov and Hutter: SGDR, equation 5, one cycle (arXiv 1608.03983); linear warm-up as
        Goyal et al., section 2.2 (arXiv 1706.02677).
    """

    def __init__(self, peak: float, floor: float, warmup_steps: int, total_steps: int) -> None:
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(f"warmup_steps {warmup_steps} must be 0 to total_steps {total_steps}")
        self.peak = peak
        self.floor = floor
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: Any) -> Any:
        """The learning rate, a float32 scalar, at optimizer step `step` (0 is the first)."""
        step = tf.cast(step, tf.float32)
        rising = self.peak * step / max(self.warmup_steps, 1)
        span = max(self.total_steps - self.warmup_steps, 1)
        progress = tf.clip_by_value((step - self.warmup_steps) / span, 0.0, 1.0)
        cosine = 0.5 * (1.0 + tf.cos(math.pi * progress))
        falling = self.floor + (self.peak - self.floor) * cosine
        return tf.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, float | int]:
        return {
            "peak": self.peak,
            "floor": self.floor,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }
