"""Rotary position embedding: a token's position turns pairs of its features.

    (x₂ᵢ, x₂ᵢ₊₁) at position p  ─►  turned by the angle p · θᵢ      θᵢ = theta^(−2i / d)

For contexts longer than the checkpoint was trained on, θ is slowed: all of it (linear), or the slow
ones only (llama3, YaRN).

Source: Su et al.: RoFormer, section 3.2 (arXiv 2104.09864); Peng et al.: YaRN, section 3.2 and 3.4
(arXiv 2309.00071).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from finetune.deepseek.config import Rope

Floats = NDArray[np.float64]
Angles = tuple[Any, Any]  # cosine and sine


def frequencies(rope: Rope, features: int) -> Floats:
    """θ of each pair, radians a position: float64 [features / 2]."""
    pairs = np.arange(0, features, 2, dtype=np.float64) / features
    plain = rope.theta**-pairs
    if rope.kind == "linear":
        return np.asarray(plain / rope.factor)
    if rope.kind == "llama3":
        return _llama3(plain, rope)
    if rope.kind == "yarn":
        return _yarn(plain, rope, features)
    return np.asarray(plain)


def amplitude(rope: Rope) -> float:
    """What YaRN multiplies cosine and sine by; otherwise 1."""
    if rope.kind != "yarn":
        return 1.0
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return _mscale(rope.factor, rope.mscale) / _mscale(rope.factor, rope.mscale_all_dim)
    return _mscale(rope.factor, 1.0)


def softmax_factor(rope: Rope) -> float:
    """What DeepSeek multiplies the scores of latent attention by under YaRN; otherwise 1.

    Source:
        DeepSeek-V3's own `inference/model.py`, class MLA; transformers 4.54 leaves it out of
        `deepseek_v2`.
    """
    if rope.kind != "yarn" or not rope.mscale_all_dim or not rope.scales_scores:
        return 1.0
    return _mscale(rope.factor, rope.mscale_all_dim) ** 2


def tables(rope: Rope, features: int, positions: Any) -> Angles:
    """Cosine and sine of every angle.

    Args:
        positions: int32 [B, T].

    Returns:
        Two of float32 [B, T, features / 2].
    """
    theta = tf.constant(frequencies(rope, features), tf.float32)
    angles = tf.cast(positions, tf.float32)[:, :, None] * theta
    size = amplitude(rope)
    return tf.cos(angles) * size, tf.sin(angles) * size


def looked_up(rope: Rope, features: int, position: Any, count: int) -> Angles:
    """As `tables`, from constants, for devices: int8 has no kernel of cosine and sine.

    Args:
        position: int32 [B], each below `count`.

    Returns:
        Two of float32 [B, 1, features / 2].
    """
    cosine, sine = tables(rope, features, tf.range(count)[None])
    return tf.gather(cosine[0], position[:, None]), tf.gather(sine[0], position[:, None])


def turn(x: Any, cosine: Any, sine: Any, *, interleaved: bool) -> Any:
    """Turns each pair of features.

    Args:
        x: [B, T, heads, features].
        cosine: float32 [B, T, features / 2]; `sine` likewise.
        interleaved: a pair is two neighbours (DeepSeek-V2, V3), or lies half the features apart
            (Llama, Qwen2).

    Returns:
        [B, T, heads, features], the pairs always half the features apart: queries and keys are
        turned alike, so their products are the same.
    """
    halves = tf.shape(x)[-1] // 2
    if interleaved:
        pairs = tf.reshape(x, tf.concat([tf.shape(x)[:-1], [halves, 2]], 0))
        first, second = pairs[..., 0], pairs[..., 1]
    else:
        first, second = x[..., :halves], x[..., halves:]
    first, second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    cosine, sine = cosine[:, :, None], sine[:, :, None]
    turned = tf.concat([first * cosine - second * sine, second * cosine + first * sine], -1)
    return tf.ensure_shape(tf.cast(turned, x.dtype), x.shape)


def _llama3(plain: Floats, rope: Rope) -> Floats:
    """Slow waves are stretched, fast ones stay, those between are blended."""
    turns = rope.original_positions * plain / (2 * math.pi)  # within the original context
    low, high = rope.low_frequency_factor, rope.high_frequency_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray(plain * (kept + (1 - kept) / rope.factor))


def _yarn(plain: Floats, rope: Rope, features: int) -> Floats:
    """As llama3, but blended evenly over the pairs between `beta_fast` and `beta_slow` turns."""

    def pair(turns: float) -> float:
        wave = math.log(rope.original_positions / (turns * 2 * math.pi))
        return features * wave / (2 * math.log(rope.theta))

    low = max(math.floor(pair(rope.beta_fast)), 0)
    high = min(math.ceil(pair(rope.beta_slow)), features - 1)
    ramp = (np.arange(features // 2) - low) / max(high - low, 0.001)
    kept = 1 - np.clip(ramp, 0.0, 1.0)
    return np.asarray(plain * (kept + (1 - kept) / rope.factor))


def _mscale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
