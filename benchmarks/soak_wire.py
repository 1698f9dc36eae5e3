"""A relay before one port: it can be cut, and says how much came back over it."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

_HOST = "127.0.0.1"
_CHUNK_BYTES = 1 << 16


class Wire:
    """Carries bytes between its own `port` and another while the `with` block runs.

    Args:
        target: the other port; nobody need listen there yet.
    """

    def __init__(self, target: int) -> None:
        self.carried = 0  # bytes that came back from the target
        self._target = target
        self._listener = socket.create_server((_HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="wire", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _end(self._listener)
        self.cut()

    def cut(self) -> None:
        """Breaks every connection; new ones may be made."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _end(end)

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # closed: it is over
                return
            try:
                target = socket.create_connection((_HOST, self._target))
            except OSError:
                caller.close()
                continue
            for end in (caller, target):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._ends |= {caller, target}
            for one, other in ((caller, target), (target, caller)):
                arguments = (one, other, one is target)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, comes_back: bool) -> None:
        with contextlib.suppress(OSError):  # cut, or one side is gone
            while data := one.recv(_CHUNK_BYTES):
                self.carried += comes_back * len(data)
                other.sendall(data)
        with self._lock:
            self._ends -= {one, other}
        for end in (one, other):
            _end(end)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other thread was quicker
        end.shutdown(socket.SHUT_RDWR)  # wakes who waits on it
    end.close()
