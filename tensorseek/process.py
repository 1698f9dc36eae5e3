"""One child process: started, watched, stopped; its output goes to a log file."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tensorseek.errors import StackError

_FOLLOW = "TENSORSEEK_FOLLOW_PARENT"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.05


class Child:
    """A command of ours in a process of its own.

    Args:
        name: for messages and the log file.
        arguments: what follows `tensorseek` on the command line.
        is_ready: whether it answers.
        logs: folder of the log file.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], is_ready: Callable[[], bool], logs: Path
    ) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self.is_ready = is_ready
        self._command = [sys.executable, "-m", "tensorseek.cli", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process's number, None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Starts the process, with the log appended to what earlier starts wrote."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | followed(),
                start_new_session=True,  # Ctrl-C is ours to pass on, in the right order
            )

    def exit_code(self) -> int | None:
        """How the process ended; None while it runs."""
        return self._process.poll() if self._process else None

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the process answers.

        Raises:
            StackError: it ended, or took too long; tells the log's last line.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            code = self.exit_code()
            if code is not None:
                raise StackError(f"{self.name}: ended with {code}: {self._last_line()}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name}: not ready after {timeout_s:.0f} s; see {self.log}")
            time.sleep(_POLL_S)

    def stop(self, timeout_s: float) -> None:
        """Asks the process to end, and ends it when it does not within `timeout_s`."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_line(self) -> str:
        with self.log.open("rb") as file:
            lines = _tail(file).decode(errors="replace").strip().splitlines()
        return f"{lines[-1]} (log: {self.log})" if lines else f"see {self.log}"


def followed() -> dict[str, str]:
    """The environment of a child that calls `follow_parent`, and so ends with this process."""
    return {_FOLLOW: str(os.getpid())}


def follow_parent() -> None:
    """Ends this process when the one that started it dies, even by SIGKILL; see `followed`.

    On Linux; elsewhere a killed parent leaves its children running.
    """
    parent = os.environ.get(_FOLLOW)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the line above
        os.kill(os.getpid(), signal.SIGTERM)


def asked_to_stop() -> Callable[[], bool]:
    """Whether SIGTERM or Ctrl-C has come since this call; they end nothing any more."""
    # A list, since a handler that interrupts itself must not wait for a lock.
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: received.append(caught))
    return lambda: bool(received)


def _tail(file: IO[bytes], size: int = 4096) -> bytes:
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - size))
    return file.read()
