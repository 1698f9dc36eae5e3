"""TF_CONFIG: how Kubeflow, Ray Train and our own launcher tell a worker who it is.

{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from finetune.errors import TrainingError

VARIABLE = "TF_CONFIG"

_FIX = (
    'set it to {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}} '
    "on each machine, or start local workers with tensorseek train --workers 2"
)


def write(workers: Sequence[str], index: int) -> str:
    """The value for one of `workers`, each an address `host:port`."""
    return json.dumps(
        {"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": index}}
    )


def check() -> None:
    """Refuses a value that TensorFlow would fail on, or wait on for ever.

    Raises:
        TrainingError: it is missing, can't be read, or names a worker that is not there.
    """
    _read()


def is_set() -> bool:
    """Whether this process is one of a cluster's."""
    return bool(os.environ.get(VARIABLE))


def is_chief() -> bool:
    """Whether this process is the one that publishes.

    Raises:
        TrainingError: as of `check`.
    """
    cluster, kind, index = _read()
    return index == 0 and (kind == "chief" or "chief" not in cluster)


def _read() -> tuple[dict[str, list[str]], str, int]:
    """The cluster, and which kind and member of it this process is."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        raise TrainingError(f"distribution.strategy multi_worker: {VARIABLE} is not set; {_FIX}")
    try:
        config = json.loads(text)
        kind, index = config["task"]["type"], int(config["task"]["index"])
        cluster = {name: list(members) for name, members in config["cluster"].items()}
        members = cluster[kind]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"{VARIABLE} {text[:200]!r} can't be read: {error!r}; {_FIX}"
        ) from error
    if not 0 <= index < len(members):
        raise TrainingError(f"{VARIABLE}: task {index} of {len(members)} {kind}s; {_FIX}")
    return cluster, kind, index
