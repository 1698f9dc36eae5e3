"""Writes that are whole or not there at all, also after a power cut."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from pathlib import Path

_HERE, _EXCHANGE = -100, 2  # Linux's AT_FDCWD and RENAME_EXCHANGE


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by `data`; a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def rename_directory(source: Path, target: Path) -> None:
    """Makes `source` visible as `target`, after all its content is on the disk.

    Raises:
        OSError: `target` exists and is not empty, or lies on another file system.
    """
    sync_tree(source)
    source.rename(target)
    sync(target.parent)


def exchange_directory(source: Path, target: Path) -> None:
    """Puts `source` in the place of `target`, which goes to `source`'s: at no moment is it missing.

    Where the system has no such call (some network file systems, macOS), `target` is missing
    between two renames.

    Raises:
        OSError: one of them is missing, or they lie on different file systems.
    """
    sync_tree(source)
    if not _exchanged(source, target):
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
        target.rename(aside)
        source.rename(target)
        aside.rename(source)
    sync(target.parent)


def _exchanged(source: Path, target: Path) -> bool:
    """Whether Linux's renameat2 could do it."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_HERE, os.fsencode(source), _HERE, os.fsencode(target), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):  # not on this file system
        return False
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def sync_tree(folder: Path) -> None:
    """Waits until a folder and everything below it is on the disk."""
    for parent, _, files in os.walk(folder):
        for name in files:
            sync(Path(parent, name))
        sync(Path(parent))


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
