"""The dense feed-forward of a block: a gate opens or closes each hidden unit.

    x ─► gate ─► silu ─┐
      ─► up ───────────┴─► × ─► down

Source: Shazeer: GLU Variants Improve Transformer, section 2, SwiGLU (arXiv 2002.05202).
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.layers import projection


class FeedForward(tf_keras.layers.Layer):  # type: ignore[misc]
    """See the module: [B, T, hidden] → the same, through `units`."""

    def __init__(self, config: DecoderConfig, units: int, name: str) -> None:
        super().__init__(name=name)
        bias = config.feed_forward_bias
        self.gate_proj = projection(config, units, "gate_proj", bias=bias)
        self.up_proj = projection(config, units, "up_proj", bias=bias)
        self.down_proj = projection(config, config.hidden, "down_proj", bias=bias)

    def call(self, x: Any) -> Any:
        return self.down_proj(tf.nn.silu(self.gate_proj(x)) * self.up_proj(x))
