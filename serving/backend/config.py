"""What can be set on the embedded backend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ConfigError

_MAX_MESSAGE_BYTES = (1 << 31) - 1  # protobuf's own limit


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """Settings of one backend process.

    Args:
        models: root of the model repository.
        host: address to listen on.
        port: 0 takes any free one.
        poll_s: how often the repository is looked at.
        grace_s: how long the previous version stays loaded after a new one took over, for
            callers that name it.
        max_batch: most rows that are merged into one run of a model; 1 turns merging off.
        batch_threads: merged runs of one signature and shape that may go on at once.
        batch_timeout_ms: how long an idle model waits for more rows; 0 runs at once and merges
            only what arrives while it is busy.
        grpc_threads: calls worked on at once.
        max_queue: calls that may wait for a thread; further ones get RESOURCE_EXHAUSTED.
        max_message_bytes: the largest request and the largest response.
        drain_s: how long calls in flight may go on after a stop was asked for.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    models: Path
    host: str = "127.0.0.1"
    port: int = 8500
    poll_s: float = 1.0
    grace_s: float = 5.0
    max_batch: int = 64
    batch_threads: int = 1
    batch_timeout_ms: float = 0.0
    grpc_threads: int = 32
    max_queue: int = 256
    max_message_bytes: int = 64 << 20
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if not self.models.is_dir():
            raise ConfigError(
                f"models: {self.models} is not a directory; create it or name the model repository"
            )
        if not self.host:
            raise ConfigError("host: is empty; use 127.0.0.1 for this machine only")
        self._check("port", 0, 65535)
        self._check("poll_s", 0.01, 3600)
        self._check("grace_s", 0, 3600)
        self._check("max_batch", 1, 65536)
        self._check("batch_threads", 1, 256)
        self._check("batch_timeout_ms", 0, 10_000)
        self._check("grpc_threads", 1, 1024)
        self._check("max_queue", 0, 1 << 20)
        self._check("max_message_bytes", 1024, _MAX_MESSAGE_BYTES)
        self._check("drain_s", 0, 3600)

    def _check(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not (math.isfinite(value) and low <= value <= high):
            raise ConfigError(f"{name}: is {value}; use a value from {low} to {high}")
