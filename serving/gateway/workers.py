"""One gateway in this process, or several in processes of their own that share the ports.

supervisor ──┬─► worker 1 ┐                        a worker that dies is started again;
 SIGTERM     ├─► worker 2 ├ SO_REUSEPORT 9000, 9001   when the supervisor dies, so do they
             └─► worker 3 ┘
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import logging
import multiprocessing
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import msgspec

from serving.gateway import listening
from serving.gateway.config import GatewayConfig
from serving.gateway.config_file import Source

_log = logging.getLogger(__name__)
_METRICS = "PROMETHEUS_MULTIPROC_DIR"  # read when prometheus_client is first imported
# Objects made until the youngest are looked through for circles. Python's own 700 are a few calls'
# worth, of which nothing has come free yet: looking takes a fifteenth of every call.
_COLLECTED_AFTER = 50_000
_AGAIN_S = 1.0  # between two starts of a worker that dies at once
_MARGIN_S = 5.0


def run(
    config: GatewayConfig, source: Source | None = None, prepare: Callable[[], None] | None = None
) -> None:
    """Runs until SIGTERM or SIGINT, and drains.

    Args:
        source: the file that `config` is from, to be taken up again when it changes.
        prepare: done first in each worker's process, such as setting up its logs.

    Raises:
        ConfigError: a port can't be had.
    """
    if config.workers == 1:
        _run_loop(_serve(config, source, 0, None))
        return
    with tempfile.TemporaryDirectory() as folder, _ports(config) as settled:
        os.environ[_METRICS] = folder
        _Supervisor(settled, source, Path(folder), prepare).run()


class _Supervisor:
    """Starts workers, and starts them again, until it is told to stop."""

    def __init__(
        self,
        config: GatewayConfig,
        source: Source | None,
        metrics: Path,
        prepare: Callable[[], None] | None,
    ) -> None:
        self._config = config
        self._source = source
        self._metrics = metrics
        self._prepare = prepare
        self._workers: dict[int, SpawnProcess] = {}
        self._read, self._write = os.pipe()  # told by the signal handler, which may do little else

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(self._write, b"."))
        for worker in range(1, self._config.workers + 1):
            self._start(worker)
        _log.info(
            "workers started",
            extra={
                "port": self._config.port,
                "http_port": self._config.http_port,
                "workers": self._config.workers,
            },
        )
        while self._read not in wait([self._read, *self._sentinels()]):
            self._restart()
        self._stop()

    def _sentinels(self) -> list[int]:
        return [worker.sentinel for worker in self._workers.values()]

    def _start(self, worker: int) -> None:
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(self._config, self._source, worker, self._metrics, self._prepare)
        )
        process.start()
        self._workers[worker] = process

    def _restart(self) -> None:
        from prometheus_client import multiprocess  # noqa: PLC0415  (once the folder is known)

        for worker, process in self._workers.items():
            if process.exitcode is not None:
                _log.error("a worker died", extra={"worker": worker, "code": process.exitcode})
                multiprocess.mark_process_dead(process.pid, str(self._metrics))  # type: ignore[no-untyped-call]
                wait([self._read], _AGAIN_S)
                self._start(worker)

    def _stop(self) -> None:
        for process in self._workers.values():
            process.terminate()
        for process in self._workers.values():
            process.join(self._config.drain_s + _MARGIN_S)
            if process.exitcode is None:
                process.kill()
                process.join()


def _work(
    config: GatewayConfig,
    source: Source | None,
    worker: int,
    metrics: Path,
    prepare: Callable[[], None] | None,
) -> None:
    if prepare:
        prepare()
    _run_loop(_serve(config, source, worker, metrics))


async def _serve(
    config: GatewayConfig, source: Source | None, worker: int, metrics: Path | None
) -> None:
    # Imported here: in a supervisor it would only take memory, and would decide too early where
    # metrics are written.
    from serving.gateway.server import Gateway  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    parent = multiprocessing.parent_process()
    if worker and parent:
        loop.add_reader(parent.sentinel, asked_to_stop.set)
    async with Gateway(config, source=source, worker=worker, metrics=metrics):
        gc.freeze()  # what is there now stays: nobody needs to look through it again
        await asked_to_stop.wait()
        if worker and parent:
            loop.remove_reader(parent.sentinel)


def _run_loop(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop where it is installed: it takes a tenth of the time off every call."""
    _allow_connections()
    gc.set_threshold(_COLLECTED_AFTER)
    factory = None
    if importlib.util.find_spec("uvloop"):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def _allow_connections() -> None:
    """Each takes a file, and systems let a process have some 1,000 unless it asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _ports(config: GatewayConfig) -> Iterator[GatewayConfig]:
    """The configuration with ports that all workers can have, and that nobody else takes."""
    with contextlib.ExitStack() as held:
        found = {}
        for name in ("port", "http_port"):
            port = getattr(config, name)
            try:
                if port:
                    listening.check_free(config.host, port)
                family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
                one = held.enter_context(socket.socket(family))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                one.bind((config.host, port))
            except OSError as error:
                raise listening.refusal(name, port, config.host, error) from error
            found[name] = one.getsockname()[1]
        yield msgspec.structs.replace(config, **found)
