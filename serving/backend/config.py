"""What can be set on the embedded backend."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from serving.backend.batcher import Batching
from serving.backend.manager import Pace
from serving.backend.model_config import Listed, Tls
from serving.errors import ConfigError

_MAX_MESSAGE_BYTES = (1 << 31) - 1  # protobuf's own limit


@dataclass(frozen=True, kw_only=True)
class Rest:
    """HTTP beside gRPC.

    Args:
        port: 0 takes any free one.
        timeout_s: how long an answer may take.
        metrics_path: where Prometheus asks; None for nowhere.
        cors: let pages of other sites ask.
    """

    port: int = 8501
    timeout_s: float = 30.0
    metrics_path: str | None = None
    cors: bool = False

    def __post_init__(self) -> None:
        _check("rest.port", self.port, 0, 65535)
        _check("rest.timeout_s", self.timeout_s, 0.001, 1e6)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded.

    Args:
        prefer_tflite: take `model.tflite` of a version that has one.
        warm_up: replay the requests that came with a model before it answers.
        warm_up_times: how often each of them.
        intra_op_threads: of one operation; 0 for as many as there are cores. None shares the cores
            out among the runs that go on at once, if calls of the model can be merged: runs that do
            not wait for one another's threads take a fifth less of a processor's time.
        inter_op_threads: operations at once; 0 for as many as there are cores, None for one, on
            the thread that answers the call, where the cores are shared out.
        gpu_memory: fraction of a GPU's memory to take; 0 for all that is free.
    """

    prefer_tflite: bool = False
    warm_up: bool = True
    warm_up_times: int = 1
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    gpu_memory: float = 0.0

    def __post_init__(self) -> None:
        _check("loading.warm_up_times", self.warm_up_times, 1, 1000)
        _check("loading.intra_op_threads", self.intra_op_threads or 0, 0, 4096)
        _check("loading.inter_op_threads", self.inter_op_threads or 0, 0, 4096)
        _check("loading.gpu_memory", self.gpu_memory, 0, 1)


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """Settings of one backend process.

    Args:
        models: root of the model repository, or the list of models as TensorFlow Serving has it.
        list_file: where the list came from.
        list_poll_s: how often that file is read again; 0 for never.
        labels_for_unavailable: a new label may name a version that does not answer yet.
        host: address to listen on.
        port: 0 takes any free one, None listens on `socket` alone.
        socket: path of a Unix socket to listen on, too.
        tls: how to prove who answers; None for plain text.
        grpc_arguments: of the gRPC server, by name.
        rest: HTTP; None for gRPC alone.
        pace: how often to look for versions, and how long to keep and retry them.
        batching: how calls are merged; None for not at all.
        loading: how a model is loaded.
        answer_values: numbers in `float_val` and its like, as TensorFlow Serving by default;
            else in `tensor_content`, which large answers need.
        grpc_threads: calls worked on at once.
        max_queue: calls that may wait for a thread; further ones get RESOURCE_EXHAUSTED.
        max_message_bytes: the largest request and the largest response.
        drain_s: how long calls in flight may go on after a stop was asked for.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    models: Path | tuple[Listed, ...]
    list_file: Path | None = None
    list_poll_s: float = 0.0
    labels_for_unavailable: bool = False
    host: str = "127.0.0.1"
    port: int | None = 8500
    socket: Path | None = None
    tls: Tls | None = None
    grpc_arguments: tuple[tuple[str, str | int], ...] = ()
    rest: Rest | None = None
    pace: Pace = field(default_factory=Pace)
    batching: Batching | None = field(default_factory=lambda: Batching(slots=2))
    loading: Loading = field(default_factory=Loading)
    answer_values: bool = False
    grpc_threads: int = 32
    max_queue: int = 256
    max_message_bytes: int = 64 << 20
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        if isinstance(self.models, Path) and not self.models.is_dir():
            raise ConfigError(
                f"models: {self.models} is not a directory; create it or name the model repository"
            )
        if not self.host:
            raise ConfigError("host: is empty; use 127.0.0.1 for this machine only")
        if self.port is None and self.socket is None:
            raise ConfigError("port: is None, as socket is; listen on one of them")
        if self.rest and self.rest.port and self.rest.port == self.port:
            raise ConfigError(
                f"rest.port: is {self.rest.port}, as port is; give HTTP one of its own"
            )
        if self.port is not None:
            _check("port", self.port, 0, 65535)
        _check("list_poll_s", self.list_poll_s, 0, 1e6)
        _check("grpc_threads", self.grpc_threads, 1, 1024)
        _check("max_queue", self.max_queue, 0, 1 << 20)
        _check("max_message_bytes", self.max_message_bytes, 1024, _MAX_MESSAGE_BYTES)
        _check("drain_s", self.drain_s, 0, 3600)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name}: is {value}; use a value from {low} to {high}")
