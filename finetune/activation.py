"""GELU in fewer operations, for training.

TensorFlow computes the exact GELU with erfc, whose CPU kernel is far slower than erf's. The two are
equal to float32's last digits but for inputs under −4, where GELU itself is nearly 0. Exports keep
TensorFlow's own, since converters know it by its shape.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tf_keras


def quicken(model: Any) -> int:
    """Gives every encoder layer whose activation is the exact GELU the quicker one.

    Returns:
        How many there are.
    """
    found = [
        layer
        for layer in model.submodules
        if getattr(layer, "intermediate_act_fn", None) is tf_keras.activations.gelu
    ]
    for layer in found:
        layer.intermediate_act_fn = gelu
    return len(found)


def gelu(x: Any) -> Any:
    """x · Φ(x), of the shape and dtype of x.

    Source:
        Hendrycks and Gimpel: Gaussian Error Linear Units, section 2 (arXiv 1606.08415).
    """
    return x * (0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5))))
