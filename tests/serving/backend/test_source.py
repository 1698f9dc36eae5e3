"""Law: what TensorFlow Serving would serve is seen, a pin is obeyed, a damaged bundle refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import IntegrityError, ManifestError, RepositoryError
from bundle.repository import ModelRepository
from serving.backend.source import Source


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
    source = Source(tmp_path)
    assert source.names() == ["Half_Plus_Two", "bundled"]
    assert source.candidates("Half_Plus_Two") == [10, 2, 1]
    assert source.candidates("bundled") == [1]


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
    assert Source(tmp_path).names() == []


def test_a_pin_leaves_one_candidate(tmp_path: Path, publish_plain: Callable[..., int]) -> None:
    for _ in range(3):
        publish_plain(tmp_path)
    ModelRepository(tmp_path).pin("tiny", 2)
    assert Source(tmp_path).candidates("tiny") == [2]


def test_a_broken_pin_is_an_error_not_another_version(
    tmp_path: Path, put: Callable[..., Path]
) -> None:
    put("model", "1")
    (tmp_path / "model" / "pin.json").write_text("{")
    with pytest.raises(ManifestError, match=r"pin\.json"):
        Source(tmp_path).candidates("model")


def test_a_model_that_is_gone_has_no_candidates(tmp_path: Path) -> None:
    assert Source(tmp_path).candidates("gone") == []


def test_a_repository_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="unmounted"):
        Source(tmp_path / "unmounted").names()


def test_a_version_is_found_whole_or_refused(
    tmp_path: Path, put: Callable[..., Path], publish_plain: Callable[..., int]
) -> None:
    source = Source(tmp_path)
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
    source, folder = Source(tmp_path), put("model", "1")
    first = source.fingerprint("model", 1)
    assert source.fingerprint("model", 1) == first
    (folder / "variables").mkdir()
    (folder / "variables" / "data").write_bytes(b"weights")
    assert source.fingerprint("model", 1) != first
    assert source.fingerprint("model", 2) == ()
