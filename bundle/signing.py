"""Ed25519 signatures: a device can tell who published something, without a network.

    <name>.key  private, PEM, for its owner only ─► sign ─► Signature {key_id, 64 bytes}
    <name>.pub  public, PEM, on every device     ─► Trusted.check

What is signed is named too, so that a signature of one thing never passes for one of another.

Source: RFC 8032, section 5.1 (Ed25519); RFC 8410 (its keys in PEM).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bundle.errors import SignatureError
from bundle.manifest import Record

FILE_NAME = "manifest.sig"

Purpose = Literal["manifest", "index"]

_MAX_KEY_BYTES = 10_000
_PRIVATE, _PUBLIC = ".key", ".pub"


class Signature(Record, frozen=True, kw_only=True):
    """A signature, as `manifest.sig` holds it in JSON; the bytes in base64."""

    algorithm: Literal["ed25519"] = "ed25519"
    key_id: str  # of the public key that checks it
    signature: bytes


@dataclass(frozen=True)
class SigningKey:
    """A private key."""

    key: Ed25519PrivateKey

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Reads a `.key` file.

        Raises:
            SignatureError: it is missing, or no Ed25519 private key in PEM.
        """
        try:
            key = serialization.load_pem_private_key(_read(path), password=None)
        except (ValueError, TypeError) as error:  # TypeError: it is encrypted
            raise _no_key(path, "private") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _no_key(path, "private")
        return cls(key)

    def sign(self, data: bytes, purpose: Purpose) -> Signature:
        """The signature of `data` as a `purpose`."""
        signature = self.key.sign(_signed(data, purpose))
        return Signature(key_id=key_id(self.key.public_key()), signature=signature)


class Trusted:
    """The public keys whose signatures count.

    Args:
        keys: by their ids.
    """

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = keys

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Trusted:
        """Reads `.pub` files, and those in folders.

        Raises:
            SignatureError: there is none, or one is no Ed25519 public key in PEM.
        """
        files = [
            file
            for path in paths
            for file in (sorted(path.glob(f"*{_PUBLIC}")) if path.is_dir() else [path])
        ]
        if not files:
            shown = ", ".join(map(str, paths))
            raise SignatureError(f"{shown}: no *{_PUBLIC} file; copy the publisher's public key")
        keys = [_read_public(file) for file in files]
        return cls({key_id(key): key for key in keys})

    def check(self, data: bytes, signature: Signature, purpose: Purpose, origin: str) -> None:
        """Refuses `data` that none of the keys has signed as a `purpose`.

        Raises:
            SignatureError: names the origin, the key's id and the trusted ones.
        """
        key = self._keys.get(signature.key_id)
        if key is None:
            known = ", ".join(sorted(self._keys))
            raise SignatureError(
                f"{origin}: signed by key {signature.key_id[:64]!r}, which is not trusted here; "
                f"trusted: {known}. Use a bundle of a trusted publisher."
            )
        try:
            key.verify(signature.signature, _signed(data, purpose))
        except InvalidSignature as error:
            raise SignatureError(
                f"{origin}: the signature of key {signature.key_id} does not fit: it was changed "
                "after it was signed. Get it again from its publisher."
            ) from error


def generate(path: Path) -> tuple[Path, Path]:
    """Makes a pair of keys, `<path>.key` and `<path>.pub`.

    Raises:
        SignatureError: one of them is there already.
    """
    private, public = (path.with_name(path.name + end) for end in (_PRIVATE, _PUBLIC))
    for file in (private, public):
        if file.exists():
            raise SignatureError(f"{file}: is there already; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    with open(private, "xb", opener=_owner_only) as written:
        written.write(secret)
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, info))
    return private, public


def key_id(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the key's 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def encode(signature: Signature) -> bytes:
    """As JSON."""
    return msgspec.json.format(msgspec.json.encode(signature), indent=1) + b"\n"


def decode(data: bytes, origin: str) -> Signature:
    """Reads a signature.

    Raises:
        SignatureError: it is none.
    """
    try:
        return msgspec.json.decode(data, type=Signature)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SignatureError(f"{origin}: {error}. Sign the bundle again.") from error


def _signed(data: bytes, purpose: Purpose) -> bytes:
    return f"tensorseek {purpose}\n".encode() + data


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(_read(path))
    except ValueError as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise SignatureError(f"{path}: {error.strerror}; make one: edge keygen") from error


def _no_key(path: Path, kind: str) -> SignatureError:
    return SignatureError(f"{path}: is no {kind} Ed25519 key in PEM; make one: edge keygen")


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
