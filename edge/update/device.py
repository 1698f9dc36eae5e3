"""A device's folder: two slots, and one small file that says which of them runs.

state.json         written whole or not at all, so that a power cut leaves the old or the new
slots/a  slots/b   unpacked bundles: the active one, and the one before it
incoming/          a download on its way

start ─► active slot ─► verified? ─► golden inputs? ─► runs ─► first answer: confirmed
             │ no, or it crashed twice before its first answer
             └─► the one before it, and the release is never installed here again
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from bundle import atomic
from bundle.errors import BundleError
from bundle.manifest import Record
from bundle.signing import Trusted
from edge import package
from edge.errors import DeviceError, EdgeError, UpdateError
from edge.runner import EdgeRunner
from edge.update.release import Release

_log = logging.getLogger(__name__)

STATE = "state.json"
MAX_STARTS = 2  # that a new bundle may crash in before its first answer
_REMEMBERED = 16  # releases that failed here

Slot = Literal["a", "b"]
_OTHER: dict[Slot, Slot] = {"a": "b", "b": "a"}


class Installed(Record, frozen=True, kw_only=True):
    """What a slot holds."""

    slot: Slot
    version: int
    sha256: str  # of the release's zip


class State(Record, frozen=True, kw_only=True):
    """What `state.json` says."""

    model: str = ""
    active: Installed | None = None
    previous: Installed | None = None
    serial: int = 0  # of the newest index that was followed
    confirmed: bool = True  # the active one has answered once
    starts: int = 0  # of the active one, until it is confirmed
    failed: tuple[str, ...] = ()  # SHA-256 of releases that did not run here


class Device:
    """The folder of one model on one device; made when it is missing.

    Args:
        root: no other program writes there.
        trusted: whose bundles may run.
    """

    def __init__(self, root: Path, trusted: Trusted) -> None:
        self.root = root
        self._trusted = trusted
        self.incoming.mkdir(parents=True, exist_ok=True)

    @property
    def incoming(self) -> Path:
        """Where downloads go."""
        return self.root / "incoming"

    def folder(self, slot: Slot) -> Path:
        """Where a slot's bundle is unpacked."""
        return self.root / "slots" / slot

    def state(self) -> State:
        """What is installed; found again in the slots if its file is lost or broken."""
        path = self.root / STATE
        try:
            return msgspec.json.decode(path.read_bytes(), type=State)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("can't read the state", extra={"path": str(path), "reason": str(error)})
        return self._found()

    def start(self, threads: int = 1) -> EdgeRunner:
        """Loads the active bundle, or if that fails the one before it.

        Call `confirm` after its first answer: until then a crash counts against it.

        Raises:
            DeviceError: neither of them runs, or nothing is installed.
        """
        with self._changing() as found:
            state = self._count_start(found)
        try:
            return self._load(state, threads)
        except (BundleError, EdgeError) as error:
            with self._changing() as found:
                state = self._roll_back(found, str(error))
            return self._load(state, threads)

    def confirm(self) -> None:
        """Notes that the active bundle has answered."""
        with self._changing() as state:
            if not state.confirmed:
                self._write(msgspec.structs.replace(state, confirmed=True, starts=0))

    def check(self, release: Release) -> None:
        """Refuses a release that must not come after what is installed.

        Raises:
            UpdateError: it is of another model, older, replayed, or failed here before.
        """
        state = self.state()
        shown = f"{release.model} version {release.version}"
        if state.model and release.model != state.model:
            raise UpdateError(f"{shown}: this device runs {state.model}; give each a folder")
        if release.serial < state.serial:
            raise UpdateError(
                f"{shown}: its index has serial {release.serial}, an older one than "
                f"{state.serial}, which was followed before; publish a new index"
            )
        if release.sha256 in state.failed:
            raise UpdateError(f"{shown}: did not run on this device before; publish a new version")
        active = state.active
        if active and release.version < active.version and not release.rollback:
            raise UpdateError(
                f"{shown}: is older than version {active.version}, which runs; going back needs an "
                "index that was signed for it: edge index --rollback"
            )

    def idle(self) -> Path:
        """Empties the slot that does not run, and gives its folder."""
        with self._changing() as state:
            slot: Slot = _OTHER[state.active.slot] if state.active else "a"
            # First of all nothing may point to it any more.
            self._write(msgspec.structs.replace(state, previous=None))
        folder = self.folder(slot)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def activate(self, folder: Path, release: Release) -> None:
        """Lets the next start run the bundle in a slot's folder, which is whole and on the disk."""
        slot: Slot = "a" if folder.name == "a" else "b"
        with self._changing() as state:
            installed = Installed(slot=slot, version=release.version, sha256=release.sha256)
            self._write(
                State(
                    model=release.model,
                    active=installed,
                    previous=state.active,
                    serial=release.serial,
                    confirmed=False,
                    failed=state.failed,
                )
            )

    def _count_start(self, state: State) -> State:
        if state.active is None:
            raise DeviceError(f"{self.root}: nothing is installed; run: edge update")
        if state.confirmed:
            return state
        if state.starts >= MAX_STARTS:
            return self._roll_back(state, f"it ended {state.starts} times without an answer")
        return self._write(msgspec.structs.replace(state, starts=state.starts + 1))

    def _load(self, state: State, threads: int) -> EdgeRunner:
        if state.active is None:
            raise DeviceError(f"{self.root}: nothing is left that runs; run: edge update")
        return EdgeRunner.open(self.folder(state.active.slot), threads, self._trusted)

    def _roll_back(self, state: State, reason: str) -> State:
        if state.active is None or state.previous is None:
            raise DeviceError(f"{self.root}: {reason}; and there is no bundle before it")
        _log.error(
            "went back to the bundle before",
            extra={
                "version": state.active.version,
                "reason": reason,
                "now": state.previous.version,
            },
        )
        failed = (*state.failed, state.active.sha256)[-_REMEMBERED:]
        return self._write(
            msgspec.structs.replace(
                state,
                active=state.previous,
                previous=None,
                confirmed=True,
                starts=0,
                failed=failed,
            )
        )

    def _found(self) -> State:
        """The state that the slots speak for: the newest bundle that can be trusted runs."""
        found = []
        for slot in _OTHER:
            folder = self.folder(slot)
            if not folder.is_dir():
                continue
            try:
                described = package.read(folder, self._trusted).manifest
            except (BundleError, EdgeError, OSError) as error:
                _log.warning("left a slot out", extra={"slot": slot, "reason": str(error)})
                continue
            installed = Installed(slot=slot, version=described.version, sha256="")
            found.append((described.name, installed))
        found.sort(key=lambda each: each[1].version)
        if not found:
            return State()
        name, active = found[-1]
        return State(model=name, active=active, previous=found[0][1] if found[1:] else None)

    @contextmanager
    def _changing(self) -> Iterator[State]:
        """The state, which nobody else changes meanwhile."""
        with (self.root / ".state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.state()

    def _write(self, state: State) -> State:
        atomic.write_bytes(self.root / STATE, msgspec.json.encode(state))
        return state
