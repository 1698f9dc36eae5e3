"""On how many devices a step runs, behind one interface.

    none           one device
    mirrored       every GPU of this machine (or the named devices), one process
    multi_worker   one process a machine, each told its part by TF_CONFIG
    horovod        one process a device, each started by Horovod's own launcher

A global batch is cut into one part a replica, in order, so that any number of replicas sees the
same examples in the same step as one device does.
"""

from __future__ import annotations

from finetune import recipe, tf_config
from finetune.distribution.base import Distribution, fold
from finetune.distribution.horovod import Ranks
from finetune.distribution.replicated import mirrored, multi_worker

__all__ = ["Distribution", "create", "fold", "is_chief"]


def create(settings: recipe.Distribution) -> Distribution:
    """The distribution that a recipe names.

    Raises:
        TrainingError: `TF_CONFIG` is missing or wrong, a device is not there, or Horovod is not
            installed.
    """
    if settings.strategy == "none":
        return Distribution()
    if settings.strategy == "horovod":
        return Ranks()
    if settings.strategy == "mirrored":
        return mirrored(settings.devices)
    return multi_worker()


def is_chief(settings: recipe.Distribution) -> bool:
    """Whether this process publishes; asked of itself, without waiting for the others.

    A process outside of the cluster does, such as the one that had Ray start the workers: it
    comes when they are done.

    Raises:
        TrainingError: `TF_CONFIG` is wrong, or Horovod is not installed.
    """
    if settings.strategy == "horovod":
        return Ranks().is_chief
    outside = settings.strategy != "multi_worker" or not tf_config.is_set()
    return outside or tf_config.is_chief()
