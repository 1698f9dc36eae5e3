"""Replicas that TensorFlow's own strategies keep: the devices of a machine, or several machines."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from finetune import tf_config
from finetune.distribution.base import Distribution, lost, share
from finetune.errors import TrainingError

Strategy = Any  # tf.distribute.Strategy; TensorFlow carries no types

# What a collective ends with when its peer's process or machine is gone.
_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnavailableError,
)

_PLACE = re.compile(r"\{\{.*?\}\}")  # where in this process the error was
_TASK = re.compile(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)")


class Replicated(Distribution):
    """Runs a step under a `tf.distribute` strategy."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.replicas = strategy.num_replicas_in_sync
        self.is_chief = bool(strategy.extended.should_checkpoint)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """See the base."""
        return self._strategy.scope()  # type: ignore[no-any-return]

    def parts(self, dataset: Any) -> Any:
        """See the base."""
        replicas = self.replicas

        def local(context: Any) -> Any:
            mine = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * mine
            return share(dataset, replicas, slice(first, first + mine))

        return self._strategy.distribute_datasets_from_function(local)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """See the base."""
        return self._strategy.run(function, args=args)

    def first(self, value: Any) -> Any:
        """See the base."""
        return self._strategy.experimental_local_results(value)[0]

    def local(self, value: Any) -> list[Any]:
        """See the base."""
        return list(self._strategy.experimental_local_results(value))

    def replica(self) -> Any:
        """See the base."""
        return tf.distribute.get_replica_context().replica_id_in_sync_group

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """See the base."""
        context = tf.distribute.get_replica_context()
        # A tensor that replicas share lies on no device of theirs, which MirroredStrategy refuses.
        own = [tf.identity(tensor) for tensor in tensors]
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, own))


class Workers(Replicated):
    """One process a machine; any of them may be lost."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """See the base."""
        try:
            yield
        except _LOST as error:
            gone = _TASK.findall(_PLACE.sub("", error.message))
            raise lost(" ".join(gone[-1]) if gone else "another worker") from error


def mirrored(devices: Sequence[str] | None) -> Distribution:
    """Every GPU of this machine, or the named devices.

    Raises:
        TrainingError: a device is not there.
    """
    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    for name in devices or ():
        if name not in known:
            raise TrainingError(f"distribution.devices: no device {name!r}; there are: {known}")
    return Replicated(tf.distribute.MirroredStrategy(list(devices) if devices else None))


def multi_worker() -> Distribution:
    """The workers that `TF_CONFIG` names; waits until all of them are there.

    Raises:
        TrainingError: `TF_CONFIG` is missing or wrong.
    """
    tf_config.check()
    with _signal_kept(signal.SIGTERM):
        return Workers(tf.distribute.MultiWorkerMirroredStrategy())


@contextlib.contextmanager
def _signal_kept(number: signal.Signals) -> Iterator[None]:
    """TensorFlow's coordination of workers takes SIGTERM: whoever had it gets it back."""
    yield
    handler = signal.getsignal(number)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)
