"""The right to refresh a model: one holder at a time, on whatever machine it runs.

    lease.json   {"holder": …, "until": …}     renewed by a thread while the work goes on
         ▲
         └─ another job may take it once `until` has passed: a dead holder blocks nobody for long

A holder that could not renew in time (it slept, or the disk was away) has lost the lease; `check`
says so before anything is published. The machines' clocks must agree to within some seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bundle import atomic
from finetune.errors import LeaseHeld, LeaseLost

FILE = "lease.json"
SECONDS = 120.0

_log = logging.getLogger(__name__)


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the lease's file."""

    holder: str  # host, process number, and a random part
    until: float  # seconds since 1970


class Lease:
    """A context in which this process alone refreshes a model.

    Args:
        folder: of the model's refreshes; it is made.
        seconds: how long a lease lasts after its last renewal; it is renewed three times as often.
        clock: seconds since 1970.

    Raises:
        LeaseHeld: on entry: another process holds it.
    """

    def __init__(
        self, folder: Path, *, seconds: float = SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._folder, self._seconds, self._clock = folder, seconds, clock
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._until = 0.0
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._keep, name="refresh lease", daemon=True)

    def __enter__(self) -> Lease:
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            held = self._read()
            now = self._clock()
            if held is not None and held.until > now:
                raise LeaseHeld(
                    f"{self._folder}: {held.holder} is refreshing this model; it holds the lease "
                    f"for {held.until - now:.0f} s more. Try again later."
                )
            if held is not None:
                _log.warning("take over the lease of %s, which died", held.holder)
            self._write(now)
        self._renewer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._renewer.join()
        with self._locked():
            if self._is_mine():
                (self._folder / FILE).unlink()

    def check(self) -> None:
        """Makes sure that this process still has the right, and renews it.

        Raises:
            LeaseLost: another process may have begun.
        """
        with self._locked():
            if not self._is_mine() or self._clock() > self._until:
                raise LeaseLost(
                    f"{self._folder}: the lease was not renewed in time, and another job may be "
                    "at work; run again to go on"
                )
            self._write(self._clock())

    def renew(self) -> None:
        """Prolongs the lease, unless it is lost."""
        with contextlib.suppress(LeaseLost):  # `check` tells of it before anything is published
            self.check()

    def _keep(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            try:
                self.renew()
            except OSError as error:  # the disk may come back in time
                _log.warning("can't renew the lease: %s", error)

    def _is_mine(self) -> bool:
        held = self._read()
        return held is not None and held.holder == self.holder

    def _write(self, now: float) -> None:
        self._until = now + self._seconds
        held = Held(self.holder, self._until)
        atomic.write_bytes(self._folder / FILE, msgspec.json.encode(held))

    def _read(self) -> Held | None:
        path = self._folder / FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Held)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise LeaseHeld(f"{path}: {error}. Remove it when no refresh is running.") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
