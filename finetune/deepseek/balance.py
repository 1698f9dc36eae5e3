"""How evenly a model's experts are busy: measured in each step, and evened by their routers' bias.

    choices of all tokens, micro-batches and replicas ─► load of each expert ─► TensorBoard
                                                              │
          bias ◄── + speed · sign(mean load − load) ◄─────────┘   after the step, without a gradient

The bias decides on the choice only, so it evens the load and leaves the loss alone.

Source: DeepSeek-V3, section 2.1.2, auxiliary-loss-free load balancing (arXiv 2412.19437).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from finetune import blocks
from finetune.deepseek.experts import Router
from finetune.errors import ModelError


class Balance:
    """Watches the routers of a model; of one without, it sees nothing.

    Args:
        speed: of the bias's update; 0 leaves it as it is.

    Raises:
        ModelError: there is no bias to update.
    """

    def __init__(self, model: Any, speed: float = 0.0) -> None:
        self._routers: dict[str, Any] = dict(_routers(model))
        self._speed = speed
        self._choices: dict[str, Any] | None = None  # None: nobody looks
        if speed and not any(router.bias is not None for router in self._routers.values()):
            raise ModelError(
                f"moe.bias_update_speed: {type(model).__name__} has no router with a bias; set it "
                "to 0"
            )
        for name, router in self._routers.items():
            router.choose = self._noting(name, router.choose)

    @property
    def names(self) -> list[str]:
        """Of the blocks with experts."""
        return list(self._routers)

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Around a forward pass, whose `loads` are then known; a recomputed one does not count."""
        self._choices = {}
        try:
            yield
        finally:
            self._observed, self._choices = self._choices, None

    def loads(self, batch: dict[str, Any]) -> list[Any]:
        """How many tokens of the pass each expert got: a float32 [E] for each router.

        Args:
            batch: of the pass; padding and rows without weight don't count.
        """
        found = []
        for name, router in self._routers.items():
            chosen = self._observed[name]
            real = tf.cast(batch["attention_mask"] > 0, tf.float32) * batch["weights"][:, None]
            each = tf.repeat(tf.reshape(real, [-1]), tf.shape(chosen)[-1])
            count = router.kernel.shape[-1]
            found.append(
                tf.math.bincount(tf.reshape(chosen, [-1]), each, minlength=count, maxlength=count)
            )
        return found

    def none(self) -> list[Any]:
        """The loads of no pass."""
        return [tf.zeros(router.kernel.shape[-1:]) for router in self._routers.values()]

    def update(self, loads: Sequence[Any]) -> None:
        """Makes experts with little to do more welcome, and the others less.

        Args:
            loads: summed over the whole step.
        """
        if not self._speed:
            return
        for router, load in zip(self._routers.values(), loads, strict=True):
            if router.bias is not None:
                router.bias.assign_add(self._speed * tf.sign(tf.reduce_mean(load) - load))

    def _noting(self, name: str, choose: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def noting(scores: Any) -> Any:
            chosen = choose(scores)
            if self._choices is not None:
                self._choices[name] = chosen
            return chosen

        return noting


def _routers(model: Any) -> Iterator[tuple[str, Router]]:
    for place, block in enumerate(blocks.find(model), 1):
        for layer in block.submodules:
            if isinstance(layer, Router):
                yield f"block_{place}", layer
