"""TFRecord files, record by record, with the place of any damage.

    length, uint64 │ masked CRC of length, uint32 │ payload, `length` bytes │ masked CRC of payload

TensorFlow's own reader says only that a file is damaged; `scan` says at which byte.

Source: tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from finetune.data import crc32c
from finetune.errors import DataError

HEAD = 12  # bytes of a record before its payload
OVERHEAD = 16  # bytes that framing adds to a record
MOST_BYTES = 1 << 28  # of a record: a damaged length must not ask for all memory
_FIX = "Convert the data again or restore the file."


@dataclass(frozen=True)
class Record:
    """A record's payload, and the byte of its file at which the record begins."""

    offset: int
    payload: bytes


def frame(payload: bytes) -> bytes:
    """A payload as one record of a TFRecord file."""
    length = struct.pack("<Q", len(payload))
    return b"".join(
        (
            length,
            struct.pack("<I", crc32c.masked(length)),
            payload,
            struct.pack("<I", crc32c.masked(payload)),
        )
    )


def scan(path: Path) -> Iterator[Record]:
    """Every record of a file, each checked against its CRCs.

    Raises:
        DataError: names the file, the byte offset of the damaged record, and the damage.
    """
    try:
        with path.open("rb") as file:
            offset = 0
            while (payload := _next(file, path, offset)) is not None:
                yield Record(offset, payload)
                offset += len(payload) + OVERHEAD
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. {_FIX}") from error


def damaged(path: Path, offset: int, damage: str) -> DataError:
    """What to raise for a record that can't be used."""
    return DataError(f"{path}, byte {offset}: {damage}. {_FIX}")


def _next(file: BinaryIO, path: Path, offset: int) -> bytes | None:
    head = file.read(HEAD)
    if not head:
        return None
    if len(head) < HEAD:
        raise damaged(path, offset, f"the file ends {len(head)} bytes into a record's head")
    length, check = struct.unpack("<QI", head)
    if crc32c.masked(head[:8]) != check:
        raise damaged(path, offset, "the record's length does not match its CRC")
    if length > MOST_BYTES:
        raise damaged(path, offset, f"the record has {length} bytes, the limit is {MOST_BYTES}")
    body = file.read(length + 4)
    if len(body) < length + 4:
        raise damaged(
            path, offset, f"the file ends {length + 4 - len(body)} bytes before the record does"
        )
    payload = body[:length]
    if crc32c.masked(payload) != struct.unpack("<I", body[length:])[0]:
        raise damaged(path, offset, "the record does not match its CRC")
    return payload
