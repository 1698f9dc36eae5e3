"""`index.json`: what a folder of shards holds. Written last: a folder that has it is whole.

train/train-00000-of-00002.tfrecord
train/train-00001-of-00002.tfrecord
train/index.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from bundle import atomic
from finetune.errors import DataError

FILE = "index.json"
SUFFIX = ".tfrecord"
MOST_SHARDS = 99_999
_MOST_BYTES = 1 << 26  # of the index
_FIX = "Convert the data again or restore the file."

Kind = Literal["text", "image"]
Count = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[^/\\]+\.tfrecord$")]


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of records."""

    file: FileName
    examples: Count
    size_bytes: Count
    sha256: Sha256


class Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All shards of a data set, and what their labels' indices mean."""

    schema_version: Literal[1]
    kind: Kind
    labels: tuple[str, ...]
    source: Sha256  # of the examples and the number of shards: says whether to convert again
    shards: Annotated[tuple[Shard, ...], msgspec.Meta(min_length=1, max_length=MOST_SHARDS)]


def shard_name(name: str, number: int, count: int) -> str:
    """Such as `train-00000-of-00008.tfrecord`."""
    return f"{name}-{number:05d}-of-{count:05d}{SUFFIX}"


def load(folder: Path) -> Index:
    """Reads the index and checks that the folder holds its shards, whole by their sizes.

    Raises:
        DataError: names the file that is missing, too much, or of the wrong size.
    """
    index = parse(folder)
    _check_files(folder, index)
    return index


def parse(folder: Path) -> Index:
    """Reads the index, whatever else the folder holds.

    Raises:
        DataError: it is missing, is not JSON, or breaks its schema.
    """
    path = folder / FILE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: is over {_MOST_BYTES} bytes. {_FIX}")
        return msgspec.json.decode(path.read_bytes(), type=Index)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. {_FIX}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {error}. {_FIX}") from error


def store(folder: Path, index: Index) -> None:
    """Makes a data set visible, all at once."""
    content = msgspec.json.format(msgspec.json.encode(index), indent=2)
    atomic.write_bytes(folder / FILE, content + b"\n")


def _check_files(folder: Path, index: Index) -> None:
    listed = {shard.file for shard in index.shards}
    if len(listed) < len(index.shards):
        raise DataError(f"{folder / FILE}: lists a shard twice. {_FIX}")
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name not in listed:
            raise DataError(f"{path}: is not in {FILE}; move it out or convert the data again")
    for shard in index.shards:
        path = folder / shard.file
        if not path.is_file():
            raise DataError(f"{path}: is missing. {_FIX}")
        size_bytes = path.stat().st_size
        if size_bytes != shard.size_bytes:
            raise DataError(
                f"{path}: has {size_bytes} bytes, {FILE} says {shard.size_bytes}. {_FIX}"
            )
