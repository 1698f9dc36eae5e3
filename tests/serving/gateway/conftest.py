"""A gateway on an event loop of its own, with everything that can be given to one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.gateway.config import GatewayConfig
from serving.gateway.server import Gateway

PATIENCE_S = 20.0


@contextlib.contextmanager
def run_in_thread(config: GatewayConfig, **options: Any) -> Iterator[Gateway]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Gateway:
        gateway = Gateway(config, **options)
        await gateway.start()
        return gateway

    try:
        gateway = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE_S)
        try:
            yield gateway
        finally:
            asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(scope="session")
def running() -> Callable[..., contextlib.AbstractContextManager[Gateway]]:
    """Runs a gateway on an event loop of its own: `with running(config) as gateway`."""
    return run_in_thread
