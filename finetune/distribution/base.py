"""What a step needs of a distribution; as it stands here, for one device.

global batch ─► parts ─► run(a replica's step) ─► sum over replicas ─► the same everywhere
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from finetune.errors import WorkerLost


class Distribution:
    """One device; a subclass replaces what is different with more of them."""

    replicas: int = 1
    is_chief: bool = True  # whether this process writes what only one may write

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Variables made inside live on every replica."""
        return contextlib.nullcontext()

    def parts(self, dataset: Any) -> Any:
        """Each global batch of `dataset`, cut for the replicas: what `run` takes.

        Args:
            dataset: the same one in every process; each batch's size is a multiple of `replicas`.
        """
        return dataset

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls `function` on every replica, each with its own part of `args`."""
        return function(*args)

    def first(self, value: Any) -> Any:
        """One replica's value of what is the same on all."""
        return value

    def local(self, value: Any) -> list[Any]:
        """What each replica of this process has of a value."""
        return [value]

    def replica(self) -> Any:
        """Inside `run`: which of the replicas this one is, from 0."""
        return 0

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """Inside `run`: the sum of each tensor over all replicas."""
        return list(tensors)

    def mean(self, value: float) -> float:
        """The mean of a figure that each process measured, the same in all of them."""
        if self.replicas == 1:
            return value
        total = self._total(tf.constant(value, tf.float64))
        return float(self.first(total)) / self.replicas

    @functools.cached_property
    def _total(self) -> Callable[[Any], Any]:
        return tf.function(lambda value: self.run(self.sum, [value])[0])  # type: ignore[no-any-return]

    def watched(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the loss of another process ends this one with an error that says so.

        Raises:
            WorkerLost: another process is gone.
        """
        return contextlib.nullcontext()


def fold(tensor: Any, parts: int) -> Any:
    """[B, …] → [parts, B / parts, …]; `B` must be a multiple of `parts`."""
    shape = tf.shape(tensor)
    return tf.reshape(tensor, tf.concat([[parts, shape[0] // parts], shape[1:]], axis=0))


def share(dataset: Any, replicas: int, chosen: slice) -> Any:
    """Of each batch [B, …] of `dataset` the parts [B / replicas, …] that a process computes."""

    def cut(batch: Any) -> Any:
        own = tf.nest.map_structure(lambda tensor: fold(tensor, replicas)[chosen], batch)
        return tf.data.Dataset.from_tensor_slices(own)

    return dataset.flat_map(cut).prefetch(2)


def lost(who: str) -> WorkerLost:
    """What a process says when it failed because another one, `who`, is gone."""
    return WorkerLost(
        f"{who} is gone, so this process stops; start all of them again and they go on from the "
        "last saved state"
    )
