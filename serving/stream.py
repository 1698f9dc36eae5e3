"""One `PredictStream` call as a client sees it: requests go in, their answers come out, in order.

    send ──► queue ──► gRPC's own reader ──► gateway ──► answer, within `timeout_s`

What was sent and is not answered when a gateway goes away, a `Backlog` keeps, for the next stream.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, NoReturn

import grpc
import grpc.aio

from protos import inference_pb2
from serving.answers import Result, prediction_of
from serving.connection import Connection, error_from
from serving.errors import BackendUnavailable, DeadlineExceeded

# What gRPC says, instead of the call's status, of a message for a call that has just ended.
_SENT_TOO_LATE = "Internal error from Core"

Request = inference_pb2.PredictRequest
Response = inference_pb2.PredictResponse
Method = Callable[..., Any]


class Backlog:
    """Requests that were sent and have no answer yet, and those that follow.

    Args:
        parts: every request in order, with the number of its first input.
        in_flight: requests that are sent ahead of their answers.
        connection: how often and when what failed is tried again.
    """

    def __init__(
        self, parts: Iterator[tuple[int, Request]], in_flight: int, connection: Connection
    ) -> None:
        self._parts = parts
        self._in_flight = in_flight
        self._connection = connection
        self._sent: deque[tuple[int, Request]] = deque()
        self._faults = 0

    def fill(self, send: Callable[[Request], None]) -> bool:
        """Sends what may be sent, and says whether an answer is still to come."""
        for part in itertools.islice(self._parts, self._in_flight - len(self._sent)):
            self._sent.append(part)
            send(part[1])
        return bool(self._sent)

    def take(self, response: Response) -> Sequence[Result]:
        """The results of the first request that has none yet."""
        self._faults = 0
        first, _ = self._sent.popleft()
        return prediction_of(response, first).results

    def pause_s(self, error: BackendUnavailable) -> float:
        """How long to wait for the gateway after an error.

        Raises:
            BackendUnavailable: the same, once it came too often in a row.
        """
        if self._faults == self._connection.retries:
            raise error
        self._faults += 1
        return self._connection.pause_s(self._faults - 1)

    def resend(self, send: Callable[[Request], None]) -> None:
        """Sends again what has no answer."""
        for _, request in self._sent:
            send(request)


class Stream:
    """A call that begins when it is made."""

    def __init__(self, method: Method, connection: Connection) -> None:
        self._timeout_s = connection.timeout_s
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        requests = iter(self._requests.get, None)
        self._call = method(requests, metadata=connection.metadata())

    def send(self, request: Request) -> None:
        """Puts a request behind those that are on their way."""
        self._requests.put(request)

    def answer(self) -> Response:
        """The answer to the first request that has none yet.

        Raises:
            BackendUnavailable: the gateway went away.
            ServingError: its status.
        """
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._call.cancel()

        timer = threading.Timer(self._timeout_s, give_up)
        timer.start()
        try:
            return next(self._call)  # type: ignore[no-any-return]  # gRPC's calls have no types
        except StopIteration:
            _ended()
        except grpc.RpcError as error:
            if late.is_set():
                raise _late(self._timeout_s) from error
            raise error_from(error) from error
        finally:
            timer.cancel()

    def cancel(self) -> None:
        """Ends it, whatever is left."""
        self._requests.put(None)
        self._call.cancel()


class AsyncStream:
    """`Stream` for an event loop."""

    def __init__(self, method: Method, connection: Connection) -> None:
        self._timeout_s = connection.timeout_s
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._call = method(self._sent(), metadata=connection.metadata())

    def send(self, request: Request) -> None:
        """Puts a request behind those that are on their way."""
        self._requests.put_nowait(request)

    async def answer(self) -> Response:
        """The answer to the first request that has none yet; see `Stream.answer`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await self._call.read()
        except TimeoutError as error:
            raise _late(self._timeout_s) from error
        except grpc.aio.AioRpcError as error:
            if error.details() == _SENT_TOO_LATE:
                _ended()
            raise error_from(error) from error
        if not isinstance(message, Response):  # the end of the stream
            _ended()
        return message

    def cancel(self) -> None:
        """Ends it, whatever is left."""
        self._call.cancel()

    async def _sent(self) -> AsyncIterator[Request]:
        while True:
            yield await self._requests.get()


def _late(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"no answer within timeout_s={timeout_s:g}; allow more time")


def _ended() -> NoReturn:
    raise BackendUnavailable("the gateway ended the stream before its last answer; ask again")
