"""Laws of integrity: every byte of a bundle is the published one, or the error names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle import integrity
from bundle.errors import IntegrityError

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # FIPS 180-4
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_bytes(b"hello")
    (tmp_path / "sub/b").write_bytes(b"")
    return tmp_path


def test_digests_are_sha256_of_relative_posix_paths_in_order(folder: Path) -> None:
    digests = integrity.digest_folder(folder)
    assert list(digests.items()) == [("a", HELLO), ("sub/b", EMPTY)]
    assert integrity.sha256_bytes(b"hello") == integrity.sha256_file(folder / "a") == HELLO


def test_a_whole_folder_passes(folder: Path) -> None:
    integrity.verify_folder(folder, integrity.digest_folder(folder))


def test_a_missing_file_is_named_with_both_hashes(folder: Path) -> None:
    digests = integrity.digest_folder(folder)
    (folder / "sub/b").unlink()
    expected = f"{folder / 'sub/b'}: missing; SHA-256 expected: {EMPTY}, found: no file"
    with pytest.raises(IntegrityError, match=expected):
        integrity.verify_folder(folder, digests)
    (folder / "sub").rmdir()
    (folder / "sub").write_bytes(b"a file where a folder was")
    with pytest.raises(IntegrityError, match=expected):
        integrity.verify_folder(folder, digests)


def test_a_corrupted_file_is_named_with_both_hashes(folder: Path) -> None:
    digests = integrity.digest_folder(folder)
    (folder / "a").write_bytes(b"")
    expected = f"{folder / 'a'}: corrupted; SHA-256 expected: {HELLO}, found: {EMPTY}"
    with pytest.raises(IntegrityError, match=expected):
        integrity.verify_folder(folder, digests)


def test_content_in_memory_obeys_the_same_law() -> None:
    expected = {"a": HELLO}
    integrity.verify_bytes("b.zip", {"a": b"hello"}, expected)
    with pytest.raises(IntegrityError, match=f"b.zip:a: missing; SHA-256 expected: {HELLO}"):
        integrity.verify_bytes("b.zip", {}, expected)
    with pytest.raises(IntegrityError, match=f"b.zip:a: corrupted; .*{HELLO}, found: {EMPTY}"):
        integrity.verify_bytes("b.zip", {"a": b""}, expected)


def test_an_unlisted_file_is_refused() -> None:
    with pytest.raises(IntegrityError, match=f"b.zip:x: not listed .*none, found: {EMPTY}"):
        integrity.verify_bytes("b.zip", {"a": b"hello", "x": b""}, {"a": HELLO})
