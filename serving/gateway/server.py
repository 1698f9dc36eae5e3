"""The gateway put together: what starts first, what stops last.

start   read the models ─► listen ─► ask the backend ─► poll
stop    health says no ─► accept nothing more ─► calls in flight end ─► close
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bundle.repository import ModelRepository
from serving.errors import ConfigError
from serving.gateway import config_file, health, listening, service
from serving.gateway.access import Access
from serving.gateway.batcher import Batcher, Batching
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.config_file import Source
from serving.gateway.endpoint import Endpoint
from serving.gateway.generator import Generator
from serving.gateway.http import HttpServer
from serving.gateway.json_api import JsonApi
from serving.gateway.metrics import Metrics
from serving.gateway.passthrough import Passthrough
from serving.gateway.pool import Pool
from serving.gateway.predictor import Predictor
from serving.gateway.request_log import RequestLog
from serving.gateway.tls import Certificates
from serving.gateway.watched import Watched

_log = logging.getLogger(__name__)
# `endpoint` refuses more than `max_in_flight` and `max_streams`. This bounds what is left of those
# that were ended: gRPC counts one until its caller reads on, or its connection goes.
_LEFT = 8
_FIRST_ANSWER_S = 0.5  # a backend that is silent must not keep the gateway from starting


class Gateway:
    """A gateway that runs between `start` and `stop`, or in `async with`.

    To be made on the event loop that it runs on. `port` and `http_port` are those it listens on.

    Args:
        source: the file that `config` is from, to be taken up again when it changes.
        worker: its number among several that share the ports, from 1; 0 if it is alone.
        metrics: where several workers write theirs.
    """

    def __init__(
        self,
        config: GatewayConfig,
        *,
        source: Source | None = None,
        worker: int = 0,
        metrics: Path | None = None,
    ) -> None:
        self.port = config.port
        self.http_port = config.http_port
        self._config = config
        self._source = source
        self._shared = worker > 0
        self._draining = False
        self._asked = asyncio.Event()
        self._running = contextlib.AsyncExitStack()
        self._metrics = Metrics(metrics)
        self._access = Access(config.keys)
        self._endpoint = Endpoint(config, self._access, self._metrics)
        self._pool = Pool(config, self._metrics.failed_over)
        self._catalog = Catalog(
            ModelRepository(config.models), self._pool.available, config.versions
        )
        self._request_log = RequestLog(config.request_log, self._metrics.dropped, worker)
        self._health = health.Health()
        self._tls = Certificates(config.tls) if config.tls else None
        self._files = self._watch()
        inference = self._make_service()
        self._http = self._make_http(inference)
        self._server = self._make_server(inference)

    async def start(self) -> None:
        """Listens, and asks the backend what it has.

        Raises:
            ConfigError: a port can't be had.
        """
        config = self._config
        async with contextlib.AsyncExitStack() as starting:
            starting.callback(self._request_log.close)
            starting.push_async_callback(self._pool.close)
            await self._catalog.scan()
            starting.push_async_callback(self._http.stop)
            tls = self._tls.http if self._tls else None
            self.http_port = await self._http.start(
                config.host, config.http_port, tls=tls, shared=self._shared
            )
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

    def apply(self, config: GatewayConfig) -> None:
        """Goes on with other settings, all of them or none.

        Raises:
            ConfigError: the keys are not valid, or a setting needs a restart; names it.
        """
        fixed = config_file.changed(self._config, config)
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed)}: can't change while the gateway runs; restart it"
            )
        self._access.load(config.keys)
        self._pool.apply(config)
        self._catalog.choices = config.versions
        self._request_log.apply(config.request_log)
        self._config = config
        self._files = self._watch()
        _log.info("new configuration")

    def _make_service(self) -> service.Inference:
        config = self._config
        batching = Batching(
            max_rows=config.max_batch,
            max_delay_s=config.max_delay_ms / 1e3,
            busy_calls=config.busy_calls,
            max_queue=config.max_queue,
        )
        batcher = Batcher(self._pool.execute, self._pool.ready, batching, self._metrics.batched)
        return service.Inference(
            self._catalog,
            Predictor(self._catalog, self._pool.execute, batcher.submit, config.max_batch),
            Generator(self._pool.run, config),
            metrics=self._metrics,
            request_log=self._request_log,
            config=config,
        )

    def _make_http(self, inference: service.Inference) -> HttpServer:
        most_bytes = self._config.max_message_bytes
        certified = self._config.tls is not None and self._config.tls.client_ca is not None
        api = JsonApi(inference, self._endpoint, most_bytes, certified=certified)
        return HttpServer(self._render, self._readiness, api, most_bytes)

    def _make_server(self, inference: service.Inference) -> grpc.aio.Server:
        config = self._config
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.max_send_message_length", config.max_message_bytes),
                # One alone must not share its port unnoticed.
                ("grpc.so_reuseport", int(self._shared)),
            ],
            maximum_concurrent_rpcs=config.max_in_flight + _LEFT * config.max_streams,
        )
        passthrough = Passthrough(self._pool, self._catalog, self._endpoint, config)
        server.add_generic_rpc_handlers((inference.handlers(self._endpoint), passthrough))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (service.NAME, health.NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        return server

    def _listen(self) -> int:
        host, port = self._config.host, self._config.port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if not self._shared:
                listening.check_free(host, port)
            if self._tls:
                return self._server.add_secure_port(address, self._tls.grpc)
            return self._server.add_insecure_port(address)
        except (OSError, RuntimeError) as error:
            raise listening.refusal("port", port, host, error) from error

    async def _poll(self) -> None:
        while True:
            try:
                self._reload()
                await self._catalog.refresh()
                self._tell()
            except Exception:  # noqa: BLE001  # a fault of ours must not end the polling
                _log.exception("polling failed")
            self._asked.set()
            await asyncio.sleep(self._config.poll_s)

    def _watch(self) -> Watched:
        return Watched(
            *(path for path in (self._source and self._source.path, self._config.keys) if path)
        )

    def _reload(self) -> None:
        if self._tls:
            self._tls.refresh()
        if not self._files.changed():
            return
        try:
            fresh = self._source.load() if self._source else self._config
            self.apply(fresh)
        except ConfigError as error:
            self._metrics.configured(refused=True)
            _log.error("configuration refused", extra={"reason": str(error)})
        else:
            self._metrics.configured(refused=False)

    def _tell(self) -> None:
        models = {name: bool(self._catalog.serving(name)) for name in self._catalog.names()}
        self._health.update(models)
        in_flight = self._endpoint.calls.in_flight
        self._metrics.looked(in_flight, sum(models.values()), self._pool.withheld)

    def _render(self) -> bytes:
        return self._metrics.render(self._endpoint.calls.in_flight)

    def _drain(self) -> None:
        _log.info("gateway drains", extra={"in_flight": self._endpoint.calls.in_flight})
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
