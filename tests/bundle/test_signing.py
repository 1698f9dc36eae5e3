"""Laws of signatures: only what a trusted key signed, as what it signed it, passes."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle import signing
from bundle.errors import SignatureError
from bundle.signing import SigningKey, Trusted


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[SigningKey, Trusted]:
    private, public = signing.generate(tmp_path_factory.mktemp("keys") / "publisher")
    return SigningKey.read(private), Trusted.read([public])


@given(data=st.binary(max_size=100), flipped=st.integers(0, 99))
def test_a_signature_fits_what_was_signed_and_nothing_else(
    keys: tuple[SigningKey, Trusted], data: bytes, flipped: int
) -> None:
    key, trusted = keys
    signature = signing.decode(signing.encode(key.sign(data, "manifest")), "here")
    trusted.check(data, signature, "manifest", "here")
    with pytest.raises(SignatureError, match=r"here: the signature of key \w{16} does not fit"):
        trusted.check(data, signature, "index", "here")
    changed = bytearray(data or b"x")
    changed[flipped % len(changed)] ^= 1
    with pytest.raises(SignatureError, match="does not fit"):
        trusted.check(bytes(changed), signature, "manifest", "here")


def test_a_key_that_is_not_trusted_is_named_with_those_that_are(
    keys: tuple[SigningKey, Trusted], tmp_path: Path
) -> None:
    other = SigningKey.read(signing.generate(tmp_path / "other")[0])
    signature = other.sign(b"data", "manifest")
    with pytest.raises(SignatureError, match=f"{signature.key_id}.*not trusted here; trusted: "):
        keys[1].check(b"data", signature, "manifest", "here")


def test_a_signature_under_a_trusted_key_s_name_does_not_pass(
    keys: tuple[SigningKey, Trusted], tmp_path: Path
) -> None:
    key, trusted = keys
    other = SigningKey.read(signing.generate(tmp_path / "other")[0])
    forged = msgspec.structs.replace(
        other.sign(b"data", "manifest"), key_id=key.sign(b"", "manifest").key_id
    )
    with pytest.raises(SignatureError, match="does not fit"):
        trusted.check(b"data", forged, "manifest", "here")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_signature_are_a_named_error(data: bytes) -> None:
    with pytest.raises(SignatureError, match=r"^here: "):
        signing.decode(data, "here")


@given(st.binary(max_size=80))
def test_a_signature_of_any_length_is_refused_not_crashed_over(
    keys: tuple[SigningKey, Trusted], noise: bytes
) -> None:
    key, trusted = keys
    signature = msgspec.structs.replace(key.sign(b"data", "manifest"), signature=noise)
    with pytest.raises(SignatureError, match="does not fit"):
        trusted.check(b"data", signature, "manifest", "here")


def test_the_private_key_is_for_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    private, _ = signing.generate(tmp_path / "k")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(SignatureError, match=r"k\.key: is there already"):
        signing.generate(tmp_path / "k")
    assert private.read_bytes() == before


def test_a_folder_of_keys_is_trusted_as_a_whole(tmp_path: Path) -> None:
    pairs = [signing.generate(tmp_path / name) for name in "ab"]
    trusted = Trusted.read([tmp_path])
    for private, _ in pairs:
        trusted.check(b"x", SigningKey.read(private).sign(b"x", "index"), "index", "here")


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAA\n"])
def test_a_file_that_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pub"
    path.write_bytes(content)
    with pytest.raises(SignatureError, match=r"x\.pub: is no public Ed25519 key"):
        Trusted.read([path])
    with pytest.raises(SignatureError, match=r"x\.pub: is no private Ed25519 key"):
        SigningKey.read(path)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match=r"No such file.*edge keygen"):
        SigningKey.read(tmp_path / "gone.key")
    with pytest.raises(SignatureError, match=r"no \*\.pub file"):
        Trusted.read([tmp_path])
