"""A stream of requests, answered in order, with few of them in memory at once.

    requests ──► read ──► [ task  task  task … ] ──► answers in order ──► the caller
                   ▲        at most `window`                                  │
                   └──────────────── a place is free again ◄──────────────────┘

A caller that reads slowly is read slowly: gRPC's own flow control does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress

_ENDED = None

Answer = Callable[[bytes], Awaitable[bytes]]


async def in_order(
    requests: AsyncIterator[bytes], answer: Answer, *, window: int, idle_s: float
) -> AsyncGenerator[bytes, None]:
    """Answers each request, several at once.

    Args:
        window: requests that are read and not yet taken as answers.
        idle_s: how long the next request may be awaited.

    Raises:
        TimeoutError: no request came within `idle_s`.
        Exception: what `answer` raised for the first request that has no answer.
    """
    places = asyncio.Semaphore(window)
    tasks: asyncio.Queue[asyncio.Future[bytes] | None] = asyncio.Queue()
    reader = asyncio.ensure_future(_read(requests, answer, places, tasks, idle_s))
    try:
        while (task := await tasks.get()) is not _ENDED:
            yield await task
            places.release()
        await reader
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await reader  # so that it starts no more
        while not tasks.empty():
            if (left := tasks.get_nowait()) is not _ENDED:
                left.cancel()


async def _read(
    requests: AsyncIterator[bytes],
    answer: Answer,
    places: asyncio.Semaphore,
    tasks: asyncio.Queue[asyncio.Future[bytes] | None],
    idle_s: float,
) -> None:
    try:
        while True:
            await places.acquire()
            async with asyncio.timeout(idle_s):
                request = await anext(requests, _ENDED)
            if request is _ENDED:
                return
            tasks.put_nowait(asyncio.ensure_future(answer(request)))
    finally:
        tasks.put_nowait(_ENDED)
