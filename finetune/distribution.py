"""On how many devices a step runs, behind one interface.

    none           one device
    mirrored       every GPU of this machine (or the named devices), one process
    multi_worker   one process a machine, each told its part by TF_CONFIG

A global batch is cut into one part a replica, in order, so that any number of replicas sees the
same examples in the same step as one device does.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from finetune import recipe
from finetune.errors import TrainingError

Strategy = Any  # tf.distribute.Strategy; TensorFlow carries no types


class Distribution:
    """Runs a step on every replica; see the module.

    Args:
        strategy: None for one device.
    """

    def __init__(self, strategy: Strategy | None) -> None:
        self._strategy = strategy
        self.replicas: int = strategy.num_replicas_in_sync if strategy else 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what only one may write."""
        if self._strategy is None:
            return True
        return bool(self._strategy.extended.should_checkpoint)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Variables made inside live on every replica."""
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()

    def parts(self, dataset: Any) -> Any:
        """Each global batch of `dataset`, cut for the replicas: what `run` takes.

        Args:
            dataset: the same one on every worker; each batch's size is a multiple of `replicas`.
        """
        if self._strategy is None:
            return dataset
        replicas = self.replicas

        def local(context: Any) -> Any:
            mine = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * mine

            def cut(batch: Any) -> Any:
                folded = tf.nest.map_structure(lambda x: fold(x, replicas), batch)
                own = tf.nest.map_structure(lambda x: x[first : first + mine], folded)
                return tf.data.Dataset.from_tensor_slices(own)

            return dataset.flat_map(cut).prefetch(2)

        return self._strategy.distribute_datasets_from_function(local)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls `function` on every replica, each with its own part of `args`."""
        if self._strategy is None:
            return function(*args)
        return self._strategy.run(function, args=args)

    def first(self, value: Any) -> Any:
        """One replica's value of what is the same on all."""
        if self._strategy is None:
            return value
        return self._strategy.experimental_local_results(value)[0]

    def sum(self, tensors: Sequence[Any]) -> list[Any]:
        """Inside `run`: the sum of each tensor over all replicas."""
        if self.replicas == 1:
            return list(tensors)
        context = tf.distribute.get_replica_context()
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors)))


def create(settings: recipe.Distribution) -> Distribution:
    """The distribution that a recipe names.

    Raises:
        TrainingError: `TF_CONFIG` is missing or wrong, or a device is not there.
    """
    if settings.strategy == "none":
        return Distribution(None)
    if settings.strategy == "mirrored":
        return Distribution(_mirrored(settings.devices))
    _check_tf_config()
    return Distribution(tf.distribute.MultiWorkerMirroredStrategy())


def _mirrored(devices: Sequence[str] | None) -> Strategy:
    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    for name in devices or ():
        if name not in known:
            raise TrainingError(f"distribution.devices: no device {name!r}; there are: {known}")
    return tf.distribute.MirroredStrategy(list(devices) if devices else None)


def _check_tf_config() -> None:
    text = os.environ.get("TF_CONFIG", "")
    fix = (
        'set it to {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", '
        '"index": 0}} on each machine'
    )
    if not text:
        raise TrainingError(f"distribution.strategy multi_worker: TF_CONFIG is not set; {fix}")
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        kind, index = config["task"]["type"], int(config["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"TF_CONFIG {text[:200]!r} can't be read: {error!r}; {fix}") from error
    if kind == "worker" and not 0 <= index < len(workers):
        raise TrainingError(f"TF_CONFIG: task {index} of {len(workers)} workers; {fix}")


def fold(tensor: Any, parts: int) -> Any:
    """[B, …] → [parts, B / parts, …]; `B` must be a multiple of `parts`."""
    shape = tf.shape(tensor)
    return tf.reshape(tensor, tf.concat([[parts, shape[0] // parts], shape[1:]], axis=0))
