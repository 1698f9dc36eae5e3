"""Zip archives with reproducible bytes, read without trust in who wrote them."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from bundle.errors import ArchiveError
from bundle.manifest import FILE_NAME, check_relative

MAX_FILES = 64
MAX_BYTES = 4 << 30  # of all entries together, unpacked

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date a zip can hold
_REGULAR = (stat.S_IFREG | 0o644) << 16


def pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of `files`; the same content always gives the same bytes.

    Entries are stored, not deflated: zlib's output differs between its versions, and int8
    weights hardly shrink.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            check_relative(name)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = _REGULAR
            entry.create_system = 3  # Unix, whatever the writer runs on
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def unpack(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, bytes]:
    """Every file of the zip at `path`, by name; the caller checks them against the manifest.

    Raises:
        ArchiveError: not a zip, damaged, or an entry that is unsafe: a path that escapes,
            a link, a duplicate, an encrypted entry, too many or too large ones.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries, max_bytes)
            return {entry.filename: _read(archive, entry) for entry in entries}
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror or error}. Copy it again.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        # RuntimeError: a feature zipfile lacks; ValueError: a name that is not UTF-8
        raise ArchiveError(f"{path}: not a readable zip: {error}. Copy it again.") from error


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(entries) > MAX_FILES:
        raise ArchiveError(f"{path}: {len(entries)} entries, the limit is {MAX_FILES}")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise ArchiveError(f"{path}: {total} bytes unpacked, the limit is {max_bytes}")
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename  # `filename` is already cut at a NUL
        try:
            check_relative(name)
        except ValueError as error:
            raise ArchiveError(f"{path}: {error}") from error
        if name in seen:
            raise ArchiveError(f"{path}: {name!r} appears twice")
        seen.add(name)
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):  # 0: its writer names no kind
            raise ArchiveError(f"{path}: {name!r} is a link or a special file")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"{path}: {name!r} is neither stored nor deflated")
        if entry.flag_bits & 1:
            raise ArchiveError(f"{path}: {name!r} is encrypted")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as file:
        if entry.filename != FILE_NAME:
            # The manifest's SHA-256 covers the others, and tells more than a failed CRC-32.
            file._expected_crc = None  # type: ignore[attr-defined]
        data = file.read(entry.file_size + 1)  # a lying header can't make us read more
    if len(data) != entry.file_size:
        raise zipfile.BadZipFile(f"{entry.filename!r} has another size than its header says")
    return data
