"""Laws of an edge bundle's file: nothing in it is used before it is proven to be the published."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle import archive, golden, manifest, signing
from bundle.errors import (
    ArchiveError,
    BundleError,
    IntegrityError,
    ManifestError,
    SignatureError,
)
from bundle.signing import SigningKey, Trusted
from edge import package

Rebuild = Callable[..., Path]


def refused(path: Path, error: type[BundleError], expected: str) -> None:
    with pytest.raises(error, match=expected) as caught:
        package.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_published_bundle_opens(bundle: Path, tokenizer_json: bytes) -> None:
    opened = package.read(bundle)
    assert opened.path == bundle
    assert (opened.manifest.name, opened.manifest.version) == ("tiny", 1)
    assert opened.edge.profile == "dynamic_int8"
    assert isinstance(opened.model, bytes)
    assert opened.model[4:8] == b"TFL3"
    assert opened.preprocessor.spec == opened.manifest.preprocess
    assert len(opened.golden.texts) == 8


@pytest.mark.parametrize("name", ["model.tflite", "tokenizer.json", "golden.json"])
def test_a_changed_byte_is_named_with_both_hashes(bundle: Path, tmp_path: Path, name: str) -> None:
    """As a bad card or a broken copy would leave it: in the zip itself."""
    whole = bundle.read_bytes()
    original = archive.unpack(bundle)[name]
    place = whole.index(original) + len(original) // 2
    changed = bytes([whole[place] ^ 1])
    path = tmp_path / "1-dynamic_int8.zip"
    path.write_bytes(whole[:place] + changed + whole[place + 1 :])
    found = hashlib.sha256(archive.unpack(path)[name]).hexdigest()
    expected = hashlib.sha256(original).hexdigest()
    refused(
        path, IntegrityError, f":{name}: corrupted; SHA-256 expected: {expected}, found: {found}"
    )


def test_a_changed_manifest_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "1-dynamic_int8.zip"
    path.write_bytes(bundle.read_bytes().replace(b'"negative"', b'"positive"'))
    refused(path, ArchiveError, r"Bad CRC-32 for file 'manifest\.json'\. Copy it again")


def test_a_cut_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    whole = bundle.read_bytes()
    path = tmp_path / "cut.zip"
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, ArchiveError, "not a readable zip: .* Copy it again")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.zip", ArchiveError, r"none\.zip: No such file or directory")


def test_a_bundle_without_a_manifest_is_refused(bundle: Path, tmp_path: Path) -> None:
    files = archive.unpack(bundle)
    files.pop(manifest.FILE_NAME)
    path = tmp_path / "bare.zip"
    path.write_bytes(archive.pack(files))
    refused(path, ManifestError, r"has no manifest\.json; publish it again")


def test_a_bundle_of_another_kind_is_refused(rebuild: Rebuild) -> None:
    refused(rebuild(edge=None), ManifestError, "is not an edge bundle: its manifest has no `edge`")


@pytest.mark.parametrize("name", ["model.tflite", "tokenizer.json", "golden.json"])
def test_a_file_that_the_manifest_does_not_list_is_missed(rebuild: Rebuild, name: str) -> None:
    refused(rebuild({name: None}), ManifestError, f"its manifest lists no {name}; publish it again")


def test_a_listed_file_that_is_not_there_is_named(bundle: Path, rebuild: Rebuild) -> None:
    listed = package.read(bundle).manifest.files
    path = rebuild({"model.tflite": None}, files=listed)
    refused(path, IntegrityError, ":model.tflite: missing; SHA-256 expected: .*, found: no file")


def test_an_extra_file_is_named(bundle: Path, rebuild: Rebuild) -> None:
    listed = package.read(bundle).manifest.files
    path = rebuild({"evil.so": b"\x7fELF"}, files=listed)
    refused(path, IntegrityError, ":evil.so: not listed in the manifest; SHA-256 expected: none")


def test_broken_golden_examples_are_named(rebuild: Rebuild) -> None:
    path = rebuild({"golden.json": b"{}"})
    refused(path, ManifestError, r":golden\.json: Object missing required field")
    three = golden.encode(golden.Golden(texts=("a",), logits=((1.0, 2.0, 3.0),), tolerance=1))
    path = rebuild({"golden.json": three})
    refused(path, ManifestError, r":golden\.json: an answer has not one logit for each of the 2")


def test_more_than_a_device_should_load_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MAX_BYTES", 1000)
    refused(bundle, ArchiveError, "bytes unpacked, the limit is 1000")


def test_an_unpacked_bundle_is_the_same_bundle_and_its_model_a_path(
    bundle: Path, tmp_path: Path
) -> None:
    for name, data in archive.unpack(bundle).items():
        (tmp_path / name).write_bytes(data)
    packed, unpacked = package.read(bundle), package.read(tmp_path)
    assert unpacked.manifest == packed.manifest
    assert unpacked.golden == packed.golden
    assert isinstance(unpacked.model, Path)
    assert unpacked.model.read_bytes() == packed.model


def test_an_unpacked_bundle_is_checked_like_a_packed_one(bundle: Path, tmp_path: Path) -> None:
    files = archive.unpack(bundle)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "more").write_bytes(b"")
    with pytest.raises(IntegrityError, match="more: not listed in the manifest"):
        package.read(tmp_path)
    (tmp_path / "more").unlink()
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(IntegrityError, match=r"tokenizer\.json: corrupted"):
        package.read(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"has no manifest\.json"):
        package.read(tmp_path)


def test_a_signature_covers_every_file_through_the_manifest(
    rebuild: Callable[..., Path], tmp_path: Path
) -> None:
    private, public = signing.generate(tmp_path / "keys" / "p")
    trusted = Trusted.read([public])
    path = rebuild()
    with pytest.raises(SignatureError, match="is not signed; sign it: edge sign"):
        package.read(path, trusted)
    package.sign(path, SigningKey.read(private))
    first = path.read_bytes()
    assert package.read(path, trusted).manifest.name == "tiny"
    assert package.read(path).manifest.name == "tiny"
    package.sign(path, SigningKey.read(private))
    assert path.read_bytes() == first  # signing again changes nothing
    files = archive.unpack(path)
    changed = files["manifest.json"].replace(b'"tiny"', b'"evil"')
    path.write_bytes(archive.pack({**files, "manifest.json": changed}))
    with pytest.raises(SignatureError, match="does not fit: it was changed"):
        package.read(path, trusted)
