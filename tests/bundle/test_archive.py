"""Laws of archives: the same content is the same bytes, and nothing unsafe or damaged opens."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle import archive
from bundle.errors import ArchiveError
from bundle.manifest import check_relative

FILES = {"manifest.json": b"{}", "model.tflite": bytes(range(256)) * 8, "assets/é.txt": b""}
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def _is_plain(name: str) -> bool:
    try:
        check_relative(name)
    except ValueError:
        return False
    return True


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(_is_plain)


def written(path: Path, fill: Callable[[zipfile.ZipFile], None]) -> Path:
    """A zip that another program made."""
    with zipfile.ZipFile(path, "w") as file:
        fill(file)
    return path


def refused(path: Path, expected: str, max_bytes: int = archive.MAX_BYTES) -> None:
    with pytest.raises(ArchiveError, match=expected) as caught:
        archive.unpack(path, max_bytes)
    assert str(path) in str(caught.value)


def test_the_same_content_has_the_same_bytes() -> None:
    assert archive.pack(FILES) == archive.pack(dict(reversed(FILES.items())))


@given(st.dictionaries(names, st.binary(max_size=300), max_size=8))
@shared_folder
def test_unpack_gives_what_pack_was_given(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = tmp_path / "bundle.zip"
    path.write_bytes(archive.pack(files))
    assert archive.unpack(path) == files


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_another_program_opens(tmp_path: Path, method: int) -> None:
    path = tmp_path / "other.zip"
    written(path, lambda file: file.writestr("a/b.txt", b"x" * 5000, method))
    assert archive.unpack(path) == {"a/b.txt": b"x" * 5000}


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "a\\b", "C:/a", "a/", "a//b"])
def test_a_path_that_escapes_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "evil.zip", lambda file: file.writestr(name, b""))
    refused(path, "must be a plain relative path")
    with pytest.raises(ValueError, match="plain relative path"):
        archive.pack({name: b""})


def test_a_name_that_goes_on_after_a_nul_is_refused(tmp_path: Path) -> None:
    data = archive.pack({"model.tflite_evil": b"x"})
    path = tmp_path / "evil.zip"
    path.write_bytes(data.replace(b"model.tflite_evil", b"model.tflite\0evil"))
    refused(path, "must be a plain relative path")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    entry = zipfile.ZipInfo("a")
    entry.external_attr = (kind | 0o777) << 16
    path = written(tmp_path / "evil.zip", lambda file: file.writestr(entry, "/etc/passwd"))
    refused(path, "'a' is a link or a special file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_appears_twice_is_refused(tmp_path: Path) -> None:
    def fill(file: zipfile.ZipFile) -> None:
        file.writestr("a", b"good")
        file.writestr("a", b"evil")

    refused(written(tmp_path / "evil.zip", fill), "'a' appears twice")


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(archive.pack({"a": b"secret"}))
    for signature, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(signature) + flags] |= 1
    path = tmp_path / "encrypted.zip"
    path.write_bytes(data)
    refused(path, "'a' is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_rare_compression_is_refused(tmp_path: Path, method: int) -> None:
    path = written(tmp_path / "rare.zip", lambda file: file.writestr("a", b"x" * 99, method))
    refused(path, "'a' is neither stored nor deflated")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(archive.pack({str(number): b"" for number in range(archive.MAX_FILES)}))
    assert len(archive.unpack(path)) == archive.MAX_FILES
    path.write_bytes(archive.pack({str(number): b"" for number in range(archive.MAX_FILES + 1)}))
    refused(path, "65 entries, the limit is 64")


def test_more_bytes_than_the_limit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    path.write_bytes(archive.pack({"a": b"x" * 600, "b": b"x" * 400}))
    assert len(archive.unpack(path, 1000)) == 2
    refused(path, "1000 bytes unpacked, the limit is 999", 999)


def test_a_bomb_is_refused_by_what_it_would_unpack_to(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    written(path, lambda file: file.writestr("a", bytes(10_000_000), zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 20_000
    refused(path, "10000000 bytes unpacked", 1_000_000)


@pytest.mark.parametrize("claimed", [10, 9_999_999])
def test_a_manifest_of_another_size_than_its_header_says_is_refused(
    tmp_path: Path, claimed: int
) -> None:
    path = tmp_path / "lying.zip"
    content = bytes(50_000)
    written(path, lambda file: file.writestr("manifest.json", content, zipfile.ZIP_DEFLATED))
    data = bytearray(path.read_bytes())
    for signature, size in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        place = data.index(signature) + size
        data[place : place + 4] = struct.pack("<L", claimed)
    path.write_bytes(data)
    refused(path, "not a readable zip")


def test_a_changed_byte_of_the_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    path.write_bytes(archive.pack({"manifest.json": b"content"}).replace(b"content", b"c0ntent"))
    refused(path, "not a readable zip: Bad CRC-32")


def test_a_changed_byte_of_another_file_is_left_to_its_sha256(tmp_path: Path) -> None:
    """An error with both hashes tells a person more than one about a checksum."""
    path = tmp_path / "damaged.zip"
    path.write_bytes(archive.pack({"model.tflite": b"weights"}).replace(b"weights", b"we1ghts"))
    assert archive.unpack(path) == {"model.tflite": b"we1ghts"}


def test_a_cut_zip_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = archive.pack({"a": b"some content", "b": b"more"})
    path = tmp_path / "cut.zip"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        refused(path, "not a readable zip")


def test_what_is_no_zip_or_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.zip"
    path.write_text("hello")
    refused(path, "not a readable zip: File is not a zip file. Copy it again")
    refused(tmp_path / "missing.zip", r"missing\.zip: No such file or directory")
    refused(tmp_path, "Is a directory")


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_gives_files_or_an_archive_error(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(_DEFLATED)
    spots = st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255))
    for spot, value in data.draw(st.lists(spots, min_size=1, max_size=4)):
        damaged[spot] = value
    path = tmp_path / "damaged.zip"
    path.write_bytes(damaged)
    try:
        found = archive.unpack(path, 1000)
    except ArchiveError:
        return
    assert sum(map(len, found.values())) <= 1000
    assert found.get("manifest.json", _MANIFEST) == _MANIFEST


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.zip"
    path.write_bytes(archive.pack({"é": b""}).replace("é".encode(), b"\xc3%"))
    refused(path, "not a readable zip: 'utf-8' codec can't decode")


def _deflated() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", _MANIFEST)
        file.writestr("é", b"y" * 100)
    return buffer.getvalue()


_MANIFEST = b"x" * 500
_DEFLATED = _deflated()
