"""AdamW as the recipe says it, with loss scaling where the precision needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from finetune import recipe
from finetune.precision import Policy
from finetune.schedule import Warmup


def build(
    settings: recipe.Optimizer,
    schedule: recipe.Schedule,
    total_steps: int,
    policy: Policy,
    variables: Sequence[Any],
) -> Any:
    """An optimizer for `variables`.

    Weight decay is decoupled and leaves out vectors and scalars: biases and the scales of norms.
    Under `mixed_float16` the optimizer is wrapped in dynamic loss scaling.

    Source:
        Loshchilov and Hutter: Decoupled Weight Decay Regularization, algorithm 2
        (arXiv 1711.05101).
    """
    peak = settings.learning_rate
    warmup_steps = round(total_steps * schedule.warmup)
    adamw = tf_keras.optimizers.AdamW(
        Warmup(
            schedule.kind,
            peak=peak,
            floor=peak * schedule.floor,
            warmup_steps=warmup_steps,
            total_steps=total_steps,
            power=schedule.power,
        ),
        weight_decay=settings.weight_decay,
        beta_1=settings.beta_1,
        beta_2=settings.beta_2,
        epsilon=settings.epsilon,
    )
    adamw.exclude_from_weight_decay(var_list=[v for v in variables if v.shape.rank < 2])
    adamw.build(variables)
    if policy == "mixed_float16":
        return tf_keras.mixed_precision.LossScaleOptimizer(adamw)
    return adamw


def scale_loss(optimizer: Any, loss: Any) -> Any:
    """The loss to differentiate: scaled where the optimizer scales."""
    return optimizer.get_scaled_loss(loss) if scales(optimizer) else loss


def unscale(optimizer: Any, gradients: Sequence[Any]) -> list[Any]:
    """Dense gradients of the loss itself, in float32."""
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
    return optimizer.get_unscaled_gradients(dense) if scales(optimizer) else dense


def scales(optimizer: Any) -> bool:
    """Whether the optimizer scales the loss, and skips steps whose gradients overflow."""
    return hasattr(optimizer, "get_scaled_loss")


def learning_rate(optimizer: Any) -> float:
    """The rate of the step that was made last."""
    inner = optimizer.inner_optimizer if scales(optimizer) else optimizer
    return float(tf.convert_to_tensor(inner.learning_rate))
