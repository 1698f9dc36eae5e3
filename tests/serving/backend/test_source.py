"""Law: what TensorFlow Serving would serve is seen, a pin is obeyed, a damaged bundle refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import IntegrityError, ManifestError, RepositoryError
from bundle.repository import ModelRepository
from serving.backend.model_config import Listed
from serving.backend.source import ListedSource, RepositorySource


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Puts a version without a manifest into the repository."""

    def put(name: str, version: str, file: str = "saved_model.pb") -> Path:
        folder = tmp_path / name / version
        folder.mkdir(parents=True)
        (folder / file).write_bytes(b"graph")
        return folder

    return put


def test_bundles_and_plain_saved_models_are_seen_the_newest_first(
    tmp_path: Path, put: Callable[..., Path], publish_plain: Callable[..., int]
) -> None:
    for version in ("2", "10", "1"):
        put("Half_Plus_Two", version)
    publish_plain(tmp_path, "bundled")
    source = RepositorySource(tmp_path)
    assert source.names() == ["Half_Plus_Two", "bundled"]
    assert source.wanted("Half_Plus_Two").versions == (10, 2, 1)
    assert source.wanted("bundled").versions == (1,)


@pytest.mark.parametrize(
    ("name", "version", "file"),
    [
        (".staging", "1", "saved_model.pb"),
        ("model", "one", "saved_model.pb"),
        ("model", "-1", "saved_model.pb"),
        ("model", "01", "saved_model.pb"),
        ("model", str(1 << 63), "saved_model.pb"),
        ("model", "edge", "1-dynamic_int8.zip"),
        ("model", "1", "variables.index"),
    ],
)
def test_what_is_no_version_is_not_seen(
    tmp_path: Path, put: Callable[..., Path], name: str, version: str, file: str
) -> None:
    put(name, version, file)
    assert RepositorySource(tmp_path).names() == []


def test_a_pin_leaves_one_candidate(tmp_path: Path, publish_plain: Callable[..., int]) -> None:
    for _ in range(3):
        publish_plain(tmp_path)
    ModelRepository(tmp_path).pin("tiny", 2)
    assert RepositorySource(tmp_path).wanted("tiny").versions == (2,)


def test_a_version_on_trial_stands_beside_the_served_one(
    tmp_path: Path, publish_plain: Callable[..., int]
) -> None:
    repository = ModelRepository(tmp_path)
    for _ in range(3):
        publish_plain(tmp_path)
    (tmp_path / "tiny" / "held.json").write_text('{"trial": 3}')
    assert RepositorySource(tmp_path).wanted("tiny") == ((2, 3), 2)
    repository.withdraw("tiny")
    assert RepositorySource(tmp_path).wanted("tiny") == ((2, 1), 1)
    publish_plain(tmp_path)
    assert RepositorySource(tmp_path).wanted("tiny") == ((4, 2, 1), 1)


def test_a_broken_pin_is_an_error_not_another_version(
    tmp_path: Path, put: Callable[..., Path]
) -> None:
    put("model", "1")
    (tmp_path / "model" / "pin.json").write_text("{")
    with pytest.raises(ManifestError, match=r"pin\.json"):
        RepositorySource(tmp_path).wanted("model")


def test_a_model_that_is_gone_has_no_candidates(tmp_path: Path) -> None:
    assert RepositorySource(tmp_path).wanted("gone").versions == ()


def test_a_repository_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unmounted"):
        RepositorySource(tmp_path / "unmounted").names()


def test_a_version_is_found_whole_or_refused(
    tmp_path: Path, put: Callable[..., Path], publish_plain: Callable[..., int]
) -> None:
    source = RepositorySource(tmp_path)
    assert source.check("plain", 1) if put("plain", "1") else None
    publish_plain(tmp_path)
    assert source.check("tiny", 1) == tmp_path / "tiny" / "1"
    (tmp_path / "tiny" / "1" / "saved_model.pb").write_bytes(b"another one")
    with pytest.raises(IntegrityError, match=r"saved_model\.pb: corrupted"):
        source.check("tiny", 1)
    with pytest.raises(RepositoryError, match=r"tiny/7: has no saved_model\.pb"):
        source.check("tiny", 7)


def test_a_fingerprint_changes_with_what_lies_in_the_folder(
    tmp_path: Path, put: Callable[..., Path]
) -> None:
    source, folder = RepositorySource(tmp_path), put("model", "1")
    first = source.fingerprint("model", 1)
    assert source.fingerprint("model", 1) == first
    (folder / "variables").mkdir()
    (folder / "variables" / "data").write_bytes(b"weights")
    assert source.fingerprint("model", 1) != first
    assert source.fingerprint("model", 2) == ()


def listed(source: ListedSource, base: Path, **policy: Any) -> tuple[tuple[int, ...], int]:
    source.replace([Listed(name="m", base=base, **policy)])
    found = source.wanted("m")
    return found.versions, found.keep


def test_a_list_serves_what_its_policies_say(tmp_path: Path, put: Callable[..., Path]) -> None:
    for version in ("1", "00000003", "2"):
        put("model", version)
    put("model", "4", "model.tflite")
    (tmp_path / "model" / "5").mkdir()  # still being copied
    source, base = ListedSource([]), tmp_path / "model"
    assert listed(source, base) == ((4,), 1)
    assert listed(source, base, latest=2) == ((4, 3), 2)
    assert listed(source, base, latest=None) == ((4, 3, 2, 1), 4)
    assert listed(source, base, latest=None, versions=(1, 3, 9)) == ((3, 1), 2)
    assert source.names() == ["m"]
    assert source.check("m", 3) == base / "00000003"
    assert source.fingerprint("m", 3) != source.fingerprint("m", 2)


def test_what_left_the_list_is_not_wanted(tmp_path: Path, put: Callable[..., Path]) -> None:
    put("model", "1")
    source = ListedSource([Listed(name="m", base=tmp_path / "model")])
    source.replace([])
    assert (source.names(), source.wanted("m").versions, source.fingerprint("m", 1)) == ([], (), ())
    with pytest.raises(RepositoryError, match="m: version 1 is not there any more"):
        source.check("m", 1)


def test_a_bundle_is_verified_under_any_name(
    tmp_path: Path, publish_plain: Callable[..., int]
) -> None:
    publish_plain(tmp_path)
    source = ListedSource([Listed(name="another", base=tmp_path / "tiny")])
    assert source.check("another", 1) == tmp_path / "tiny" / "1"
    (tmp_path / "tiny" / "1" / "saved_model.pb").write_bytes(b"another one")
    with pytest.raises(IntegrityError, match=r"saved_model\.pb: corrupted"):
        source.check("another", 1)


def test_a_folder_that_is_gone_is_an_error_not_a_model_without_versions(tmp_path: Path) -> None:
    source = ListedSource([Listed(name="m", base=tmp_path / "gone")])
    with pytest.raises(FileNotFoundError):
        source.wanted("m")
