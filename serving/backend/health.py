"""`grpc.health.v1`: the backend as a whole under "", and each model under its name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import HealthServicer

_Response = health_pb2.HealthCheckResponse
_Send = Callable[[Any], None]


class Health(HealthServicer):
    """The package's own servicer, which also lets go of its watchers when the server drains.

    There a watch ends only when its caller hangs up, so every drain would last as long as it may.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[_Watch] = set()
        self._watches_lock = threading.Lock()
        self._draining = False
        self.tell("", serving=False)

    def tell(self, name: str, *, serving: bool) -> None:
        """Says whether a model, or with "" the whole, can be asked."""
        self.set(name, _Response.SERVING if serving else _Response.NOT_SERVING)

    def drain(self) -> None:
        """Nobody serves any more; who watches is told so, and let go."""
        self.enter_graceful_shutdown()
        with self._watches_lock:
            self._draining = True
            watches, self._watches = self._watches, set()
        for watch in watches:
            watch(None)

    def Watch(  # type: ignore[override]  # noqa: N802  # gRPC gives the callback, always
        self, request: Any, context: Any, send_response_callback: _Send
    ) -> None:
        """Answers the state of one name now and at each change, without holding a thread."""
        watch = _Watch(send_response_callback)
        with self._watches_lock:
            self._watches.add(watch)
        context.add_callback(lambda: self._forget(watch))
        super().Watch(request, context, watch)
        if self._draining:
            watch(None)

    def _forget(self, watch: _Watch) -> None:
        with self._watches_lock:
            self._watches.discard(watch)


class _Watch:
    """Sends to one watcher until `None` ends it; it may be ended from both sides at once."""

    def __init__(self, send: _Send) -> None:
        self._send = send
        self._ended = False
        self._lock = threading.Lock()

    def __call__(self, response: Any) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = response is None
            self._send(response)
