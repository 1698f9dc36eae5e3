"""HTTP for those who watch the gateway: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from serving.errors import ConfigError

Readiness = Callable[[], Mapping[str, object]]  # {"ready": bool, …}


class HttpServer:
    """Serves until `stop`.

    Args:
        readiness: what `/readyz` answers; 200 if its `ready` is true, else 503.
    """

    def __init__(self, registry: CollectorRegistry, readiness: Readiness) -> None:
        self._registry = registry
        self._readiness = readiness
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port: another one than `port` if that is 0.

        Raises:
            ConfigError: the port can't be had.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise ConfigError(
                f"http_port: {port} on {host} can't be had: {error.strerror}; give another one"
            ) from error
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
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
