"""The backend put together: what starts first, what stops last.

start   listen ─► load the models ─► health says yes
stop    health says no ─► accept nothing more ─► calls in flight end ─► unload
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.backend import loader
from serving.backend.config import BackendConfig
from serving.backend.health import Health
from serving.backend.loader import Servable
from serving.backend.manager import Manager
from serving.backend.service import ModelService, PredictionService
from serving.backend.source import Source
from serving.errors import ConfigError

_log = logging.getLogger(__name__)


class Backend:
    """A backend that runs between `start` and `stop`, or in `with`; it can't be started again."""

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._port = config.port
        self._source = Source(config.models)
        self._health = Health()
        self._loaded = threading.Event()
        self._manager = Manager(
            self._source,
            self._load,
            self._tell,
            poll_s=config.poll_s,
            grace_s=config.grace_s,
        )
        self._server = self._make_server()

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def address(self) -> str:
        """`host:port`, as a gRPC client takes it."""
        host = self._config.host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    def start(self) -> None:
        """Listens, and begins to load the models; `wait_loaded` waits for them.

        Raises:
            ConfigError: the port can't be had.
        """
        try:
            self._port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ConfigError(
                f"port: {self._port} on {self._config.host} can't be had; is another server "
                "running there? Give another one, or 0 for any"
            ) from error
        self._server.start()
        self._manager.start()
        _log.info("backend listens", extra={"address": self.address})

    def wait_loaded(self, timeout_s: float | None = None) -> bool:
        """Waits until every model that was there at the start is loaded, or has failed to."""
        return self._loaded.wait(timeout_s)

    def stop(self, drain_s: float | None = None) -> None:
        """Answers the calls in flight, then closes and unloads.

        Args:
            drain_s: how long they may take; the rest is cancelled. By default the config's.
        """
        drain_s = self._config.drain_s if drain_s is None else drain_s
        _log.info("backend drains", extra={"drain_s": drain_s})
        self._health.drain()
        self._server.stop(drain_s).wait()
        self._manager.stop()
        _log.info("backend stopped")

    def __enter__(self) -> Self:
        self.start()
        self.wait_loaded()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _make_server(self) -> grpc.Server:
        config = self._config
        # Threads, not asyncio: TensorFlow lets go of the GIL while it computes, and the thread
        # that brings a request runs it, so an idle model answers without a thread switch.
        server = grpc.server(
            ThreadPoolExecutor(config.grpc_threads, thread_name_prefix="backend"),
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                ("grpc.so_reuseport", 0),  # else two backends share a port unnoticed
            ],
            maximum_concurrent_rpcs=config.grpc_threads + config.max_queue,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self._manager), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self._manager), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return server

    def _load(self, name: str, version: int) -> Servable:
        return loader.load(self._source.check(name, version), self._config)

    def _tell(self, name: str, serving: bool) -> None:
        self._health.tell(name, serving=serving)
        if not name:
            self._loaded.set()


def run(config: BackendConfig) -> None:
    """Runs a backend until SIGTERM or SIGINT, and drains it; a second signal ends it at once.

    Raises:
        ConfigError: the port can't be had.
    """
    backend = Backend(config)
    asyncio.run(_serve_until_signal(backend))
    backend.stop()


async def _serve_until_signal(backend: Backend) -> None:
    # A loop, because a `threading.Event` that is set in a signal handler deadlocks when the
    # signal comes while the main thread is just going to wait.
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    backend.start()
    await asked_to_stop.wait()
