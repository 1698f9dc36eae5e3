"""HTTP/2 connections to a gRPC port that ask nothing, as many sleeping callers hold them open."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from collections.abc import Iterator

_HOST = "127.0.0.1"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # empty SETTINGS
_SPARE = 300  # files that this process needs beside them
_PATIENCE_S = 60


@contextlib.contextmanager
def opened(port: int, most: int) -> Iterator[int]:
    """Holds connections open; gives how many, fewer than `most` where files are scarce.

    Each has said hello and has heard the server's.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = most if hard == resource.RLIM_INFINITY else min(most, hard - _SPARE)
    with contextlib.ExitStack() as held:
        connections = []
        for _ in range(count):
            connection = held.enter_context(socket.create_connection((_HOST, port), _PATIENCE_S))
            connection.sendall(_HELLO)
            connections.append(connection)
        _hear(connections)
        yield count


def _hear(connections: list[socket.socket]) -> None:
    """Waits until every connection was answered."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    silent, deadline = len(connections), time.monotonic() + _PATIENCE_S
    while silent:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{silent} of {len(connections)} connections were not answered")
        for descriptor, _ in poll.poll(1000):
            poll.unregister(descriptor)
            silent -= 1
