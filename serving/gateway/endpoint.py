"""What every call goes through: admission, deadline, status code, metrics, one line of log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio

from serving.errors import status_of
from serving.gateway.admission import Admission
from serving.gateway.config import GatewayConfig
from serving.gateway.metrics import Metrics
from serving.gateway.types import Deadline

_log = logging.getLogger(__name__)
_MAX_MESSAGE = 500  # characters; a status that outgrows gRPC's headers is lost
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(kw_only=True)
class Call:
    """One call; whoever answers it says what it was about."""

    method: str
    deadline: Deadline
    model: str = ""  # only one that exists: it becomes a metric's label
    version: int = 0
    inputs: int = 0


Method = Callable[[bytes, Call], Awaitable[bytes]]
Stream = Callable[[bytes, Call], AsyncGenerator[bytes, None]]


class Endpoint:
    """Makes gRPC handlers of plain async methods that raise the errors of `serving.errors`."""

    def __init__(self, config: GatewayConfig, admission: Admission, metrics: Metrics) -> None:
        self._config = config
        self._admission = admission
        self._metrics = metrics

    def unary(self, name: str, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of one method, from bytes to bytes.

        Args:
            name: of the method, for metrics and log.
        """

        async def handle(request: bytes, context: Context) -> bytes:
            async with self._call(name, context) as call:
                return await method(request, call)

        return grpc.unary_unary_rpc_method_handler(handle)

    def stream(self, name: str, method: Stream) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of one method that answers with many messages, each as it comes.

        Args:
            name: of the method, for metrics and log.
        """

        async def handle(request: bytes, context: Context) -> None:
            async with (
                self._call(name, context) as call,
                # Closed here and now, so that what the method still asks of a backend is cancelled.
                aclosing(method(request, call)) as messages,
            ):
                async for message in messages:
                    await context.write(message)

        return grpc.unary_stream_rpc_method_handler(handle)

    def _deadline(self, context: Context) -> Deadline:
        asked_s: float | None = context.time_remaining()  # the stubs forget None
        allowed_s = self._config.default_timeout_s if asked_s is None else asked_s
        return Deadline.after(allowed_s - min(self._config.deadline_margin_s, allowed_s / 10))

    @asynccontextmanager
    async def _call(self, name: str, context: Context) -> AsyncIterator[Call]:
        """What an answer is made within; an error becomes the call's status."""
        call = Call(method=name, deadline=self._deadline(context))
        started = time.perf_counter()
        code, message = grpc.StatusCode.OK, ""
        try:
            with self._admission.admit():
                async with asyncio.timeout(call.deadline.left_s()):
                    yield call
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001  # the last stop before the caller
            code, message = _status(error, call)
            await context.abort(code, message)
        finally:
            self._ended(call, code, message, time.perf_counter() - started)

    def _ended(self, call: Call, code: grpc.StatusCode, message: str, total_s: float) -> None:
        self._metrics.ended(
            method=call.method,
            code=code.name,
            model=call.model,
            version=call.version,
            total_s=total_s,
        )
        line = {
            "method": call.method,
            "model": call.model,
            "version": call.version,
            "code": code.name,
            "inputs": call.inputs,
            "total_ms": round(total_s * 1e3, 3),
        }
        _log.info("call", extra=line | ({"error": message} if message else {}))


def _status(error: Exception, call: Call) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, grpc.aio.AioRpcError):  # only the pass-through lets it through
        return error.code(), error.details() or ""
    if isinstance(error, TimeoutError):
        error = call.deadline.exceeded()
    code, message = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        _log.error("call failed", exc_info=error, extra={"method": call.method})
    return code, message[:_MAX_MESSAGE]
