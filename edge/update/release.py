"""What a publisher offers: one bundle of one model, under a signature.

    index.json   {"release": "<JSON>", "signature": {…}}     one file, so that both always fit

The serial only rises: an index that was recorded once can't be played to a device again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bundle import atomic, integrity, signing
from bundle.errors import ManifestError
from bundle.manifest import Profile, Record, check_name, check_relative
from bundle.signing import Signature, SigningKey, Trusted
from edge import package
from edge.errors import UpdateError

FILE_NAME = "index.json"
MAX_BYTES = 1 << 16  # of an index


class Release(Record, frozen=True, kw_only=True):
    """One bundle, and its place in the order of releases."""

    model: str
    serial: int  # of the index: rises with each one
    version: int  # of the model
    profile: Profile
    file: str  # beside the index
    size_bytes: int
    sha256: str
    rollback: bool = False  # whether an older version than the device's is meant

    def __post_init__(self) -> None:
        check_name(self.model)
        check_relative(self.file)
        if "/" in self.file:
            raise ValueError(f"file {self.file!r} must lie beside the index")
        if min(self.serial, self.version) < 1:
            raise ValueError("serial and version must be at least 1")
        if not 0 < self.size_bytes <= package.MAX_BYTES:
            raise ValueError(f"size_bytes {self.size_bytes} must be 1 to {package.MAX_BYTES}")
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(f"sha256 is not a SHA-256: {self.sha256!r}")


class _Index(Record, frozen=True, kw_only=True):
    release: str  # JSON, exactly as it was signed
    signature: Signature


def read(data: bytes, trusted: Trusted, origin: str) -> Release:
    """The release that an index offers.

    Raises:
        SignatureError: nobody who is trusted has signed it.
        UpdateError: it is no index.
    """
    try:
        index = msgspec.json.decode(data, type=_Index)
        signed = index.release.encode()
        trusted.check(signed, index.signature, "index", origin)
        return msgspec.json.decode(signed, type=Release)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise UpdateError(f"{origin}: is no index: {error}. Make it again: edge index") from error


def write(bundle: Path, key: SigningKey, *, rollback: bool = False) -> Release:
    """Offers a signed bundle to devices, by the index beside it; replaces the one before.

    Raises:
        SignatureError: the bundle is not signed with this key.
        ManifestError: the index that is there is of another model.
    """
    trusted = Trusted({signing.key_id(key.key.public_key()): key.key.public_key()})
    found = package.read(bundle, trusted)
    path = bundle.with_name(FILE_NAME)
    before = read(path.read_bytes(), trusted, str(path)) if path.exists() else None
    if before and before.model != found.manifest.name:
        raise ManifestError(
            f"{path}: is of {before.model}, not of {found.manifest.name}; give each model a folder"
        )
    release = Release(
        model=found.manifest.name,
        serial=before.serial + 1 if before else 1,
        version=found.manifest.version,
        profile=found.edge.profile,
        file=bundle.name,
        size_bytes=bundle.stat().st_size,
        sha256=integrity.sha256_file(bundle),
        rollback=rollback,
    )
    signed = msgspec.json.encode(release)
    index = _Index(release=signed.decode(), signature=key.sign(signed, "index"))
    atomic.write_bytes(path, msgspec.json.encode(index))
    return release
