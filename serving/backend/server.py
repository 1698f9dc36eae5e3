"""The backend put together: what starts first, what stops last.

start   a repository: listen ─► load the models ─► health says yes
        a list, as in TensorFlow Serving: load the models ─► labels ─► listen
stop    health says no ─► accept nothing more ─► calls in flight end ─► unload
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from serving.backend import loader, tflite
from serving.backend.api import Api
from serving.backend.config import BackendConfig
from serving.backend.health import Health
from serving.backend.labels import Labels
from serving.backend.listing import Listing
from serving.backend.manager import Manager
from serving.backend.metrics import Metrics
from serving.backend.rest import RestServer
from serving.backend.servable import Servable
from serving.backend.service import ModelService, PredictionService
from serving.backend.source import TFLITE_MODEL, ListedSource, RepositorySource
from serving.backend.warm_up import FILE as WARM_UP_FILE
from serving.backend.warm_up import warm_up
from serving.errors import ConfigError

_SERVICES = (
    *(
        service.full_name
        for module in (prediction_service_pb2, model_service_pb2, health_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    ),
    reflection.SERVICE_NAME,
)

_log = logging.getLogger(__name__)


class Backend:
    """A backend that runs between `start` and `stop`, or in `with`; it can't be started again."""

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._port = config.port or 0
        self._health = Health()
        self._loaded = threading.Event()
        self._stopping = threading.Event()
        models = config.models
        self._source = (
            RepositorySource(models) if isinstance(models, Path) else ListedSource(models)
        )
        self._manager = Manager(self._source, self._load, self._tell, config.pace)
        labels = Labels(self._manager.is_available, allow_unavailable=config.labels_for_unavailable)
        self._listing: Listing | None = None
        if isinstance(self._source, ListedSource) and not isinstance(models, Path):
            self._listing = Listing(self._source, labels, self._manager, models)
        api = Api(self._manager, labels, self._reload, answer_values=config.answer_values)
        metrics = Metrics(api.is_model)
        self._server = self._make_server(api, metrics)
        self._rest = RestServer(api, metrics, config, config.rest) if config.rest else None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return self._port

    @property
    def address(self) -> str:
        """`host:port`, as a gRPC client takes it."""
        host = self._config.host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    @property
    def rest_port(self) -> int:
        """The port of HTTP, once started; 0 without."""
        return self._rest.port if self._rest else 0

    def start(self) -> None:
        """Listens, and begins to load the models; with a list of models, listens once it has.

        Raises:
            ConfigError: a port can't be had, or a label names a version that does not answer.
        """
        if self._listing is None:
            self._listen()
            self._manager.start()
            return
        self._manager.start()
        self._loaded.wait()
        if self._stopping.is_set():
            return
        self._listing.settle()
        self._listen()
        if self._config.list_file and self._config.list_poll_s:
            self._listing.watch(self._config.list_file, self._config.list_poll_s)

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
        self._stopping.set()
        self._health.drain()
        if self._listing:
            self._listing.stop()
        ended = self._server.stop(drain_s)
        if self._rest:
            self._rest.stop()
        ended.wait()
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

    def _listen(self) -> None:
        config = self._config
        if config.port is not None:
            self._port = self._add_port(self.address, f"port: {self._port} on {config.host}")
        if config.socket:
            self._add_port(f"unix:{config.socket}", f"socket: {config.socket}")
        self._server.start()
        if self._rest:
            self._rest.start()
        _log.info("backend listens", extra={"address": self.address, "rest_port": self.rest_port})

    def _add_port(self, address: str, what: str) -> int:
        tls = self._config.tls
        try:
            if tls is None:
                return self._server.add_insecure_port(address)
            credentials = grpc.ssl_server_credentials(
                [(tls.key.encode(), tls.certificate.encode())],
                root_certificates=tls.ca.encode() or None,
                require_client_auth=tls.verify_clients,
            )
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            hint = "" if tls is None else " Or TLS's key and certificate are none."
            raise ConfigError(
                f"{what} can't be had; is another server running there? "
                f"Give another one, or 0 for any.{hint}"
            ) from error

    def _make_server(self, api: Api, metrics: Metrics) -> grpc.Server:
        config = self._config
        # Threads, not asyncio: TensorFlow lets go of the GIL while it computes, and the thread
        # that brings a request runs it, so an idle model answers without a thread switch.
        server = grpc.server(
            ThreadPoolExecutor(config.grpc_threads, thread_name_prefix="backend"),
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                ("grpc.so_reuseport", 0),  # else two backends share a port unnoticed
                (
                    "grpc.http2.max_ping_strikes",
                    0,
                ),  # a gateway may ask every second: are you there?
                *config.grpc_arguments,
            ],
            maximum_concurrent_rpcs=config.grpc_threads + config.max_queue,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(api, metrics), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(api), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(_SERVICES, server)
        return server

    def _load(self, name: str, version: int) -> Servable:
        path = self._source.check(name, version)
        loading = self._config.loading
        is_lite = loading.prefer_tflite and (path / TFLITE_MODEL).is_file()
        load = tflite.load if is_lite else loader.load
        servable = load(path, self._config)
        requests = path / WARM_UP_FILE
        if loading.warm_up and requests.is_file():
            warm_up(servable, requests, loader.records(requests), loading.warm_up_times)
        return servable

    def _reload(self, config: Any) -> None:
        if self._listing is None:
            raise ConfigError(
                "this server takes its models from a repository; publish there, "
                "or start it with --model_config_file"
            )
        self._listing.reload(config)

    def _tell(self, name: str, serving: bool) -> None:
        self._health.tell(name, serving=serving)
        if not name:
            self._loaded.set()


def run(config: BackendConfig) -> None:
    """Runs a backend until SIGTERM or SIGINT, and drains it; a second signal ends it at once.

    Raises:
        ConfigError: it can't start with these settings.
    """
    # What was imported stays. To look through it, TensorFlow above all, would stop every thread for
    # 150 ms at each collection, and so at each swap.
    gc.collect()
    gc.freeze()
    asyncio.run(_serve_until_signal(Backend(config)))


async def _serve_until_signal(backend: Backend) -> None:
    # A loop, because a `threading.Event` that is set in a signal handler deadlocks when the
    # signal comes while the main thread is just going to wait.
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    starting = asyncio.create_task(asyncio.to_thread(backend.start))
    stopping = asyncio.create_task(asked_to_stop.wait())
    both: set[asyncio.Task[Any]] = {starting, stopping}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        await asyncio.to_thread(backend.stop)  # lets go of a start that still loads
    await starting
