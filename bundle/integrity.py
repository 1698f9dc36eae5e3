"""SHA-256 of a bundle's files: taken when it is written, checked when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bundle.errors import IntegrityError


def sha256_bytes(data: bytes) -> str:
    """The SHA-256 of `data`, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> dict[str, str]:
    """Every file below `folder`, as relative POSIX path → SHA-256, in sorted order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def verify_folder(folder: Path, expected: Mapping[str, str]) -> None:
    """Checks that each file of `expected` lies in `folder` with that SHA-256.

    Raises:
        IntegrityError: names the file and both hashes.
    """
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise IntegrityError(_missing(str(path), digest))
        _compare(str(path), digest, sha256_file(path))


def verify_bytes(origin: str, content: Mapping[str, bytes], expected: Mapping[str, str]) -> None:
    """Checks that `content` holds the files of `expected` with those SHA-256, and no others.

    Args:
        origin: where the content came from, for the message.

    Raises:
        IntegrityError: names the file and both hashes.
    """
    for name, digest in expected.items():
        if name not in content:
            raise IntegrityError(_missing(f"{origin}:{name}", digest))
        _compare(f"{origin}:{name}", digest, sha256_bytes(content[name]))
    for name in content.keys() - expected.keys():
        raise IntegrityError(
            f"{origin}:{name}: not listed in the manifest; SHA-256 expected: none, "
            f"found: {sha256_bytes(content[name])}. Publish the bundle again."
        )


def _missing(where: str, expected: str) -> str:
    return (
        f"{where}: missing; SHA-256 expected: {expected}, found: no file. "
        "Copy or publish the bundle again."
    )


def _compare(where: str, expected: str, found: str) -> None:
    if expected != found:
        raise IntegrityError(
            f"{where}: corrupted; SHA-256 expected: {expected}, found: {found}. "
            "Copy or publish the bundle again."
        )
