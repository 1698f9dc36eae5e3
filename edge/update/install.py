"""The way of a release onto a device; what runs there runs on, whatever happens on the way.

index ─► newer? ─► download ─► signature, hashes ─► idle slot ─► golden inputs ─► swap
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bundle import archive, atomic
from bundle.signing import Trusted
from edge import package
from edge.errors import UpdateError
from edge.update import release as releases
from edge.update.device import Device
from edge.update.release import Release
from edge.update.source import Source

_PROOF_TIMEOUT_S = 300.0

Prove = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Update:
    """What an update did."""

    release: Release
    installed: bool  # False: it was there already


def update(device: Device, source: Source, trusted: Trusted, prove: Prove | None = None) -> Update:
    """Brings a device to the release that a publisher offers.

    Args:
        prove: runs an unpacked bundle's golden inputs, and raises if it answers wrongly; by
            default in a process of its own, which may crash without harm.

    Raises:
        UpdateError: the release can't be had or must not be installed.
        BundleError: it is damaged, not signed by one who is trusted, or answers wrongly here.
        EdgeError: the device's runtime can't run it.
    """
    with _alone(device):
        release = releases.read(source.index(), trusted, f"{source.address}/{releases.FILE_NAME}")
        device.check(release)
        active = device.state().active
        if active and active.sha256 == release.sha256:
            return Update(release=release, installed=False)
        archived = _download(device, source, release)
        folder = _unpack(device, archived, release, trusted)
        (prove or _prove)(folder)
        device.activate(folder, release)
        archived.unlink()
        return Update(release=release, installed=True)


def _download(device: Device, source: Source, release: Release) -> Path:
    target = device.incoming / f"{release.sha256}.zip"
    for other in device.incoming.iterdir():
        if other != target:
            other.unlink()
    # The zip, and what is unpacked from it: its entries are not compressed.
    needed, free = 2 * release.size_bytes, shutil.disk_usage(device.incoming).free
    if free < needed:
        raise UpdateError(f"{device.incoming}: {free} bytes are free, {needed} are needed")
    source.download(release, target)
    return target


def _unpack(device: Device, archived: Path, release: Release, trusted: Trusted) -> Path:
    found = package.read(archived, trusted)
    described = (found.manifest.name, found.manifest.version, found.edge.profile)
    if described != (release.model, release.version, release.profile):
        raise UpdateError(f"{release.file}: is {described}, its index says otherwise")
    folder = device.idle()
    for name, data in archive.unpack(archived, package.MAX_BYTES).items():
        (folder / name).write_bytes(data)
    atomic.sync_tree(folder)
    return folder


def _prove(folder: Path) -> None:
    """In a process of its own: a runtime may crash over a model, not only refuse it."""
    command = [sys.executable, "-m", "edge.prove", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROOF_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UpdateError(f"{folder}: gave no answer in {_PROOF_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"the runtime crashed ({done.returncode})"
        raise UpdateError(f"does not run on this device: {reason}")


@contextmanager
def _alone(device: Device) -> Iterator[None]:
    with (device.root / ".update.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UpdateError(f"{device.root}: another update is under way; wait for it") from error
        yield
