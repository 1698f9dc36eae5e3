"""The gateway put together: what starts first, what stops last.

start   read the models ─► listen ─► ask the backend ─► poll
stop    health says no ─► accept nothing more ─► calls in flight end ─► close
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bundle.repository import ModelRepository
from serving.errors import ConfigError
from serving.gateway import health, service
from serving.gateway.admission import Admission
from serving.gateway.backend import Backend
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.endpoint import Endpoint
from serving.gateway.generator import Generator
from serving.gateway.http import HttpServer
from serving.gateway.metrics import Metrics
from serving.gateway.passthrough import Passthrough
from serving.gateway.predictor import Predictor

_log = logging.getLogger(__name__)
_FIRST_ANSWER_S = 0.5  # a backend that is silent must not keep the gateway from starting


class Gateway:
    """A gateway that runs between `start` and `stop`, or in `async with`.

    To be made on the event loop that it runs on. `port` and `http_port` are those it listens on.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self.port = config.port
        self.http_port = config.http_port
        self._config = config
        self._draining = False
        self._asked = asyncio.Event()
        self._running = contextlib.AsyncExitStack()
        self._admission = Admission(config.max_in_flight)
        self._metrics = Metrics(lambda: self._admission.in_flight)
        most_bytes = max(config.max_message_bytes, config.max_cache_bytes)
        self._backend = Backend(config.backend, most_bytes)
        self._catalog = Catalog(ModelRepository(config.models), self._backend.available)
        self._health = health.Health()
        self._http = HttpServer(self._metrics.registry, self._readiness)
        self._server = self._make_server()

    async def start(self) -> None:
        """Listens, and asks the backend what it has.

        Raises:
            ConfigError: a port can't be had.
        """
        config = self._config
        async with contextlib.AsyncExitStack() as starting:
            starting.push_async_callback(self._backend.close)
            await self._catalog.scan()
            starting.push_async_callback(self._http.stop)
            self.http_port = await self._http.start(config.host, config.http_port)
            starting.push_async_callback(self._server.stop, config.drain_s)
            self.port = self._listen()
            await self._server.start()
            poll = asyncio.create_task(self._poll())
            starting.callback(poll.cancel)
            starting.callback(self._drain)
            self._running = starting.pop_all()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), _FIRST_ANSWER_S)
        _log.info(
            "gateway listens",
            extra={"port": self.port, "http_port": self.http_port, **self._readiness()},
        )

    async def stop(self) -> None:
        """Drains: answers the calls in flight, for at most `drain_s`, then closes."""
        await self._running.aclose()
        _log.info("gateway stopped")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _make_server(self) -> grpc.aio.Server:
        config = self._config
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                ("grpc.so_reuseport", 0),  # else two gateways share a port unnoticed
            ],
            maximum_concurrent_rpcs=config.max_in_flight + config.max_streams,
        )
        endpoint = Endpoint(config, self._admission, self._metrics)
        predictor = Predictor(self._catalog, self._backend.execute, config.max_batch)
        generator = Generator(self._catalog, self._backend.run, config)
        inference = service.Inference(
            self._catalog, predictor, generator, self._metrics, config.max_inputs
        )
        server.add_generic_rpc_handlers(
            (inference.handlers(endpoint), Passthrough(self._backend, endpoint))
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (service.NAME, health.NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    def _listen(self) -> int:
        host, port = self._config.host, self._config.port
        try:
            _check_free(host, port)
            return self._server.add_insecure_port(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            )
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(
                f"port: {port} on {host} can't be had: {reason}; give another one"
            ) from error

    async def _poll(self) -> None:
        while True:
            try:
                await self._catalog.refresh()
                self._tell()
            except Exception:  # noqa: BLE001  # a fault of ours must not end the polling
                _log.exception("polling failed")
            self._asked.set()
            await asyncio.sleep(self._config.poll_s)

    def _tell(self) -> None:
        models = {name: bool(self._catalog.serving(name)) for name in self._catalog.names()}
        self._health.update(models)
        self._metrics.available(sum(models.values()))

    def _drain(self) -> None:
        _log.info("gateway drains", extra={"in_flight": self._admission.in_flight})
        self._draining = True
        self._health.drain()

    def _readiness(self) -> Mapping[str, object]:
        models = {name: self._catalog.serving(name) for name in self._catalog.names()}
        if self._draining:
            reason = "the gateway is shutting down"
        elif self._catalog.fault:
            reason = self._catalog.fault
        elif not models:
            reason = "no model is published"
        elif not any(models.values()):
            reason = "the backend serves none of the published models"
        else:
            return {"ready": True, "models": models}
        return {"ready": False, "reason": reason, "models": models}


def _check_free(host: str, port: int) -> None:
    """Raises the OSError that gRPC, when it binds in vain, only writes to standard error."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def run(config: GatewayConfig) -> None:
    """Runs a gateway until SIGTERM or SIGINT, and drains it.

    Raises:
        ConfigError: a port can't be had.
    """
    asyncio.run(_run(config))


async def _run(config: GatewayConfig) -> None:
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with Gateway(config):
        await asked_to_stop.wait()
