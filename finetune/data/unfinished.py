"""A folder of shards while it is written: what makes a conversion safe to kill and to run again.

train-00000-of-00002.tfrecord          whole: it was renamed after its last byte
.train-00000-of-00002.tfrecord.json    note: of which data, its size and SHA-256
.train-00001-of-00002.tfrecord.tmp     what the killed writer was at
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bundle import atomic, integrity
from finetune.data import shard_index, tfrecord
from finetune.data.images import Images
from finetune.data.jsonl import Examples
from finetune.data.shard_index import Shard
from finetune.errors import DataError


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What lies beside a whole shard until the index is there."""

    source: str  # see `shard_index.Index`
    shard: Shard


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other conversions away from a folder; the lock goes with the process.

    Raises:
        DataError: another one has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise DataError(f"{folder}: another conversion writes to it; wait for its end") from error
    try:
        yield
    finally:
        os.close(descriptor)


def whole(folder: Path, names: Sequence[str], source: str) -> dict[str, Shard]:
    """Shards that an earlier run of the same conversion finished, by name.

    Raises:
        DataError: the folder holds anything else; nothing in it is touched.
    """
    if (folder / shard_index.FILE).exists():
        index = shard_index.parse(folder)
        if index.source != source:
            raise DataError(f"{folder}: holds another data set; remove it or name another folder")
        return {shard.file: shard for shard in index.shards}
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and path.suffix in (".json", ".tmp")
        if path.name not in names and not hidden:
            raise DataError(f"{path}: is not of this conversion; name an empty folder")
    for path in folder.glob(".*.tmp"):
        path.unlink()
    notes = [_load(path) for path in folder.glob(".*.json")]
    return {note.shard.file: note.shard for note in notes if note and note.source == source}


def write_shard(
    path: Path,
    content: Examples | Images,
    *,
    source: str,
    earlier: Shard | None,
    advance: Callable[[int], None],
) -> Shard:
    """Writes a shard and its note, unless the file is already what an earlier run wrote."""
    if earlier is not None and _is_same(path, earlier):
        advance(earlier.examples)
        return earlier
    shard = tfrecord.write_shard(path, content, advance)
    atomic.write_bytes(_note(path), msgspec.json.encode(Note(source=source, shard=shard)))
    return shard


def remove_notes(folder: Path) -> None:
    """Tidies a folder that has its index."""
    for path in folder.glob(f".*{shard_index.SUFFIX}.json"):
        path.unlink()


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.json")


def _load(path: Path) -> Note | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Note)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # not by us: its shard is written again


def _is_same(path: Path, shard: Shard) -> bool:
    return (
        path.is_file()
        and path.stat().st_size == shard.size_bytes
        and integrity.sha256_file(path) == shard.sha256
    )
