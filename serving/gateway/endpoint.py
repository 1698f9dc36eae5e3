"""What every call goes through: key, admission, deadline, status code, metrics, one line of log.

gRPC ──► unary, stream, bulk ─┐
                              ├─► through ─► a method        its error ─► Refused ─► a status
HTTP ──► json_api ────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio

from serving import logs
from serving.errors import LimitExceeded, status_of
from serving.gateway.access import Access, Visitor
from serving.gateway.admission import Admission
from serving.gateway.call import Call, Origin
from serving.gateway.config import GatewayConfig
from serving.gateway.metrics import Metrics
from serving.gateway.types import Deadline

_log = logging.getLogger(__name__)
_MAX_MESSAGE = 500  # characters; a status that outgrows gRPC's headers is lost
_FAREWELL_S = 1.0  # for a status to be taken by the caller's side
_NOBODY = Visitor("")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
T = TypeVar("T")

Method = Callable[[bytes, Call], Awaitable[bytes]]
Stream = Callable[[bytes, Call], AsyncGenerator[bytes, None]]
Bulk = Callable[[AsyncIterator[bytes], Origin], AsyncGenerator[bytes, None]]


class Refused(Exception):
    """What a caller is told instead of an answer.

    Args:
        retry_after_s: when the same call may go through; None if nobody knows.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:_MAX_MESSAGE]
        self.retry_after_s = retry_after_s


class Endpoint:
    """Makes handlers of plain async methods that raise the errors of `serving.errors`."""

    def __init__(self, config: GatewayConfig, access: Access, metrics: Metrics) -> None:
        self._config = config
        self._access = access
        self._metrics = metrics
        self.calls = Admission(config.max_in_flight, "max_in_flight")
        self.streams = Admission(config.max_streams, "max_streams")

    def unary(
        self, name: str, method: Method, *, timed: bool = True
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The gRPC handler of one method, from bytes to bytes.

        Args:
            name: of the method, for metrics and log.
            timed: see `through`.
        """

        async def handle(request: bytes, context: Context) -> bytes:
            try:
                return await self.through(
                    name, origin_of(context), lambda call: method(request, call), timed=timed
                )
            except Refused as refused:
                await _abort(context, refused)

        return grpc.unary_unary_rpc_method_handler(handle)

    def stream(self, name: str, method: Stream) -> grpc.RpcMethodHandler[Any, Any]:
        """The gRPC handler of a method that answers with many messages, each as it comes."""

        async def handle(request: bytes, context: Context) -> None:
            async def write(call: Call) -> None:
                # Closed here and now, so that what the method still asks of a backend is cancelled.
                async with aclosing(method(request, call)) as messages:
                    async for message in messages:
                        await context.write(message)

            try:
                await self.through(name, origin_of(context), write)
            except Refused as refused:
                await _abort_stream(context, refused)

        return grpc.unary_stream_rpc_method_handler(handle)

    def bulk(self, method: Bulk) -> grpc.RpcMethodHandler[Any, Any]:
        """The gRPC handler of a method that answers many messages with many.

        A stream may last for ever, but may not stand still for `idle_timeout_s`.
        """

        async def handle(requests: AsyncIterator[bytes], context: Context) -> None:
            try:
                with self.streams:
                    async with aclosing(method(requests, origin_of(context))) as messages:
                        async for message in messages:
                            async with asyncio.timeout(self._config.idle_timeout_s):
                                await context.write(message)
            except Exception as error:  # noqa: BLE001  # the last stop before the caller
                await _abort_stream(context, self._refusal(error, "PredictStream", None))

        return grpc.stream_stream_rpc_method_handler(handle)

    async def through(
        self,
        name: str,
        origin: Origin,
        work: Callable[[Call], Awaitable[T]],
        *,
        places: AbstractContextManager[None] | None = None,
        timed: bool = True,
    ) -> T:
        """Does a call's work, and counts and logs how it ended.

        Args:
            places: what it holds meanwhile; by default one of `max_in_flight`.
            timed: ends the work at its deadline; else it does that itself.

        Raises:
            Refused: instead of every error.
        """
        started = time.perf_counter()
        call = Call(method=name, origin=origin, deadline=self._deadline(origin), visitor=_NOBODY)
        code, message = grpc.StatusCode.OK, ""
        try:
            call.visitor = self._access.admit(
                origin.value("authorization", "x-api-key"), origin.host
            )
            with places or self.calls, call.visitor:
                if not timed:
                    return await work(call)
                async with asyncio.timeout(call.deadline.left_s()):
                    return await work(call)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            refused = self._refusal(error, name, call.deadline)
            code, message = refused.code, refused.message
            raise refused from error
        finally:
            self._ended(call, code, message, time.perf_counter() - started)

    def _deadline(self, origin: Origin) -> Deadline:
        allowed_s = origin.timeout_s
        if allowed_s is None:
            allowed_s = self._config.default_timeout_s
        return Deadline.after(allowed_s - min(self._config.deadline_margin_s, allowed_s / 10))

    def _refusal(self, error: Exception, name: str, deadline: Deadline | None) -> Refused:
        if isinstance(error, Refused):
            return error
        if isinstance(error, grpc.aio.AioRpcError):  # only the pass-through lets it through
            return Refused(error.code(), error.details() or "")
        if isinstance(error, TimeoutError):
            idle_s = self._config.idle_timeout_s
            idle = f"the stream stood still for idle_timeout_s={idle_s:g}; read and write on"
            message = str(deadline.exceeded()) if deadline else idle
            return Refused(grpc.StatusCode.DEADLINE_EXCEEDED, message)
        code, message = status_of(error)
        if code is grpc.StatusCode.INTERNAL:
            _log.error("call failed", exc_info=error, extra={"method": name})
        retry_after_s = error.retry_after_s if isinstance(error, LimitExceeded) else None
        return Refused(code, message, retry_after_s)

    def _ended(self, call: Call, code: grpc.StatusCode, message: str, total_s: float) -> None:
        self._metrics.ended(
            method=call.method,
            code=code.name,
            model=call.model,
            version=call.version,
            total_s=total_s,
        )
        line: dict[str, object] = {
            "method": call.method,
            "model": call.model,
            "version": call.version,
            "code": code.name,
            "inputs": call.inputs,
            "total_ms": round(total_s * 1e3, 3),
        }
        if call.visitor.key:
            line["key"] = call.visitor.name
        if message:
            line["error"] = message
        logs.often(_log, "call", line)


def origin_of(context: Context) -> Origin:
    """Where a gRPC call comes from."""
    # The stubs forget that there are pairs, and that a caller may have set no deadline.
    metadata: Any = context.invocation_metadata()
    return Origin(context.peer(), metadata or (), context.time_remaining())


async def _abort_stream(context: Context, refused: Refused) -> None:
    """Ends a stream; a caller that reads no more hears of it when it reads on.

    The status stands behind messages that wait for the caller: to wait with them would hold one of
    the server's calls for as long as the caller likes.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            await _abort(context, refused)


async def _abort(context: Context, refused: Refused) -> NoReturn:
    hint = refused.retry_after_s
    # What gRPC's own retry policies obey; negative for never.
    pushback = "grpc-retry-pushback-ms"
    if hint is not None:
        milliseconds = str(int(hint * 1e3) + 1)
        trailing = (("retry-after-ms", milliseconds), (pushback, milliseconds))
        await context.abort(refused.code, refused.message, trailing)
    if refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        await context.abort(refused.code, refused.message, ((pushback, "-1"),))
    await context.abort(refused.code, refused.message)
