"""Which dtype a model computes in, chosen for the device unless the recipe says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import tensorflow as tf
import tf_keras

Policy = Literal["float32", "mixed_float16", "mixed_bfloat16"]

# Only with these units do bfloat16 products beat float32 ones on a CPU.
_BFLOAT16_UNITS = {"amx_bf16", "avx512_bf16"}


def choose(precision: str) -> Policy:
    """The Keras policy for a recipe's `precision`.

    `auto` is `mixed_float16` on a GPU, `mixed_bfloat16` on a CPU that multiplies bfloat16 in
    hardware, else `float32`.
    """
    if precision in ("float32", "mixed_float16", "mixed_bfloat16"):
        return precision  # type: ignore[return-value]
    if tf.config.list_physical_devices("GPU"):
        return "mixed_float16"
    return "mixed_bfloat16" if _cpu_flags() & _BFLOAT16_UNITS else "float32"


@contextmanager
def scope(policy: Policy) -> Iterator[None]:
    """Layers built inside compute in `policy`; variables stay float32.

    Source:
        Micikevicius et al.: Mixed Precision Training, section 3 (arXiv 1710.03740).
    """
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(before)


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux: take the choice that is right everywhere
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
