"""AdamW as the recipe says it, with loss scaling where the precision needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    depths: Sequence[int] | None = None,
) -> Any:
    """An optimizer for `variables`.

    Weight decay is decoupled and leaves out vectors and scalars: biases and the scales of norms.
    A block's rate is `layer_decay` times that of the block above it; the head has the whole rate.
    Under `mixed_float16` the optimizer is wrapped in dynamic loss scaling.

    Args:
        depths: of the variables, see `blocks.depths`; by default all are of one.

    Source:
        Loshchilov and Hutter: Decoupled Weight Decay Regularization, algorithm 2
        (arXiv 1711.05101); Howard and Ruder: ULMFiT, section 3.2, for the rate by depth
        (arXiv 1801.06146).
    """
    peak = settings.learning_rate
    warmup_steps = round(total_steps * schedule.warmup)
    adamw = _LayerwiseAdamW(
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
        shares=_shares(variables, depths, settings.layer_decay),
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


class _LayerwiseAdamW(tf_keras.optimizers.AdamW):  # type: ignore[misc]
    """AdamW in which each variable has a share of the learning rate.

    Args:
        shares: every variable with its own.
    """

    def __init__(self, *args: Any, shares: Sequence[tuple[Any, float]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._share = 1.0
        # A method, since a checkpoint would take a dict for a part of the optimizer.
        self._share_of = {self._var_key(variable): share for variable, share in shares}.__getitem__

    @property
    def learning_rate(self) -> Any:
        """Of the variable that is being updated; otherwise of the head."""
        rate = super().learning_rate
        return rate if self._share == 1.0 else rate * self._share

    def update_step(self, gradient: Any, variable: Any) -> None:
        with self._at(variable):
            super().update_step(gradient, variable)

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        for variable in variables:
            with self._at(variable):
                super()._apply_weight_decay([variable])

    @contextmanager
    def _at(self, variable: Any) -> Iterator[None]:
        self._share = self._share_of(self._var_key(variable))
        try:
            yield
        finally:
            self._share = 1.0


def _shares(
    variables: Sequence[Any], depths: Sequence[int] | None, decay: float
) -> list[tuple[Any, float]]:
    depths = depths or [0] * len(variables)
    deepest = max(depths, default=0)
    pairs = zip(variables, depths, strict=True)
    return [(variable, decay ** (deepest - depth)) for variable, depth in pairs]
