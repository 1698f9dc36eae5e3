"""Backend, gateway and demo as child processes over one model repository.

tensorseek up ──┬─► serve backend   127.0.0.1:8500   TensorFlow Serving's API
                ├─► serve gateway   127.0.0.1:9000   our API; health and metrics on 9001
                └─► demo            127.0.0.1:7860   a page

A child that dies is started again: at once, then after 1, 2, 4 … 30 s while it keeps dying.
"""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tensorseek.errors import StackError
from tensorseek.process import Child

HOST = "127.0.0.1"

_READY_S = 120
_STOP_S = 20
_WATCH_S = 0.2
_STABLE_S = 60  # a child that ran this long starts with a clean record
_MAX_BACK_OFF_S = 30
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the parts listen, all on loopback."""

    backend: int = 8500
    gateway: int = 9000
    http: int = 9001
    demo: int = 7860

    def check_free(self) -> None:
        """Refuses ports that something else listens on, before anything is started.

        Raises:
            StackError: names the port and its option.
        """
        for name, port in vars(self).items():
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    raise StackError(f"port {port} is in use; choose another with --{name}-port")


def free_ports() -> Ports:
    """Ports that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        for one in sockets:
            one.bind((HOST, 0))
        backend, gateway, http, demo = (one.getsockname()[1] for one in sockets)
    return Ports(backend=backend, gateway=gateway, http=http, demo=demo)


def backend(models: Path, ports: Ports, logs: Path) -> Child:
    """The embedded TensorFlow Serving."""
    command = ["serve", "backend", "--models", str(models), "--port", str(ports.backend)]
    return Child("backend", command, lambda: _serves(ports.backend), logs)


def gateway(models: Path, ports: Ports, logs: Path, *, needs_model: bool = False) -> Child:
    """The gateway in front of the backend.

    Args:
        needs_model: it counts as ready only when it can answer for a model.
    """
    command = ["serve", "gateway", "--models", str(models)]
    command += ["--backend", f"{HOST}:{ports.backend}"]
    command += ["--port", str(ports.gateway), "--http-port", str(ports.http)]
    url = f"http://{HOST}:{ports.http}/{'readyz' if needs_model else 'healthz'}"
    return Child("gateway", command, lambda: answers(url), logs)


def demo(models: Path, ports: Ports, logs: Path, runs: Path) -> Child:
    """The page over gateway, edge bundles and training runs."""
    command = ["demo", "--models", str(models), "--gateway", f"{HOST}:{ports.gateway}"]
    command += ["--port", str(ports.demo), "--runs", str(runs)]
    return Child("demo", command, lambda: answers(f"http://{HOST}:{ports.demo}/"), logs)


@contextlib.contextmanager
def running(children: Sequence[Child]) -> Iterator[None]:
    """Starts the children together; at the end stops the last one first."""
    try:
        for child in children:
            child.start()
        yield
    finally:
        for child in reversed(children):
            child.stop(_STOP_S)


def wait_ready(children: Sequence[Child]) -> None:
    """Waits until every child answers.

    Raises:
        StackError: one of them ended, or takes too long.
    """
    for child in children:
        child.wait_ready(_READY_S)


def supervise(children: Sequence[Child], report: Callable[[str], None]) -> NoReturn:
    """Starts again each child that dies, until this process is interrupted."""
    records = {child.name: _Record() for child in children}
    while True:
        time.sleep(_WATCH_S)
        for child in children:
            code = child.exit_code()
            record = records[child.name]
            if code is not None and record.may_start(code, child.name, report):
                child.start()


class _Record:
    """When a child last started, and how long to wait before the next time."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._back_off_s = 0.0
        self._due: float | None = None  # None: it runs, as far as we know

    def may_start(self, code: int, name: str, report: Callable[[str], None]) -> bool:
        now = time.monotonic()
        if self._due is None:
            if now - self._started > _STABLE_S:
                self._back_off_s = 0.0
            self._due = now + self._back_off_s
            report(f"{name} ended with {code}; starting it again in {self._back_off_s:.0f} s")
        if now < self._due:
            return False
        self._due = None
        self._started = now
        self._back_off_s = min(max(1.0, 2 * self._back_off_s), _MAX_BACK_OFF_S)
        return True


def _serves(port: int) -> bool:
    """Whether the standard health service on `port` says SERVING."""
    import grpc  # noqa: PLC0415 (not on a machine that only runs edge bundles)
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{HOST}:{port}", options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:  # not there yet
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def answers(url: str) -> bool:
    """Whether `url` answers with 200."""
    try:
        with _DIRECT.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
