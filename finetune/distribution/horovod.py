"""Ranks that Horovod keeps: one process a device, started by `horovodrun -np 2 tensorseek train …`.

`docker/build-horovod` builds it for the TensorFlow we use; it is on no other path of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from finetune.distribution.base import Distribution, lost, share
from finetune.errors import TrainingError


class Ranks(Distribution):
    """Runs one replica in this process and sums with the other ranks.

    Raises:
        TrainingError: Horovod is not installed.
    """

    def __init__(self) -> None:
        try:
            import horovod.tensorflow as horovod  # noqa: PLC0415 (few have it)
        except ModuleNotFoundError as error:
            raise TrainingError(
                "distribution.strategy horovod: Horovod is not installed; run "
                "docker/build-horovod, or choose multi_worker"
            ) from error
        horovod.init()
        self._horovod = horovod
        self.replicas = horovod.size()
        self.is_chief = horovod.rank() == 0
        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            tf.config.set_visible_devices(gpus[horovod.local_rank()], "GPU")

    def parts(self, dataset: Any) -> Any:
        """See the base."""
        rank = self._horovod.rank()
        return share(dataset, self.replicas, slice(rank, rank + 1))

    def replica(self) -> Any:
        """See the base."""
        return self._horovod.rank()

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """See the base."""
        return list(self._horovod.grouped_allreduce(list(tensors), op=self._horovod.Sum))

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """See the base."""
        try:
            yield
        except tf.errors.UnknownError as error:  # what Horovod's own error becomes in a graph
            if "horovod" not in str(error).lower():
                raise
            raise lost("another rank") from error
