"""Writes that are whole or not there at all, also after a power cut."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


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
