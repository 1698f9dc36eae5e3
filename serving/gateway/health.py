"""`grpc.health.v1`: the gateway as a whole under "", and each model under its name.

Unlike the servicer that comes with grpcio-health-checking, no watcher can hold up a change, a
model that is gone is unknown again, and watchers are let go when the server drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_Response = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it has no types
    """Says who serves; nobody does before the first `update`, nor after `drain`."""

    def __init__(self) -> None:
        self._serving: Mapping[str, bool] = {"": False}
        self._changed = asyncio.Event()
        self._draining = False

    def update(self, models: Mapping[str, bool]) -> None:
        """Says which models serve; the whole does if one of them does."""
        if not self._draining:
            self._set({"": any(models.values()), **models})

    def drain(self) -> None:
        """Nobody serves any more; who watches is told so, and let go."""
        self._draining = True
        self._set(dict.fromkeys(self._serving, False))

    async def Check(  # noqa: N802  # gRPC's name
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> health_pb2.HealthCheckResponse:
        """The state of one name."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "service: is unknown; send a model's")
        return _Response(status=self._status(request.service))

    async def Watch(  # noqa: N802  # gRPC's name
        self,
        request: health_pb2.HealthCheckRequest,
        _: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state of one name, now and at each change."""
        told = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != told:
                yield _Response(status=status)
                told = status  # it may be old news by now, so look again
            elif self._draining:
                return
            else:
                await changed.wait()

    def _status(self, name: str) -> int:
        serving = self._serving.get(name)
        if serving is None:
            return int(_Response.SERVICE_UNKNOWN)
        return int(_Response.SERVING if serving else _Response.NOT_SERVING)

    def _set(self, serving: Mapping[str, bool]) -> None:
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()
