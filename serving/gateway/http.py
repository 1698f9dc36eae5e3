"""HTTP: predictions as JSON, and for those who watch `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from serving.gateway import json_api, listening
from serving.gateway.json_api import JsonApi

Readiness = Callable[[], Mapping[str, object]]  # {"ready": bool, …}


class HttpServer:
    """Serves until `stop`.

    Args:
        metrics: what `/metrics` answers.
        readiness: what `/readyz` answers; 200 if its `ready` is true, else 503.
        max_bytes: of one request.
    """

    def __init__(
        self, metrics: Callable[[], bytes], readiness: Readiness, api: JsonApi, max_bytes: int
    ) -> None:
        self._render = metrics
        self._readiness = readiness
        app = web.Application(client_max_size=max_bytes)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post(json_api.PATH, api.predict)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        shared: bool = False,
    ) -> int:
        """Listens, and returns the port: another one than `port` if that is 0.

        Args:
            shared: whether other processes listen on the same port.

        Raises:
            ConfigError: the port can't be had.
        """
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, host, port, ssl_context=tls, reuse_port=shared or None)
            await site.start()
        except OSError as error:
            raise listening.refusal("http_port", port, host, error) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Closes the port and every connection."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        answer = self._readiness()
        return web.json_response(dict(answer), status=200 if answer["ready"] else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
