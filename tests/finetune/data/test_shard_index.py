"""Laws of the index: it and the files must agree, and who disagrees is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.data import shard_index
from finetune.data.shard_index import Index, Shard
from finetune.errors import DataError

NAMES = ("train-00000-of-00002.tfrecord", "train-00001-of-00002.tfrecord")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Stored, with its files."""
    shards = []
    for name in NAMES:
        (tmp_path / name).write_bytes(b"1234")
        shards.append(Shard(file=name, examples=1, size_bytes=4, sha256="0" * 64))
    made = Index(
        schema_version=1, kind="text", labels=("a", "b"), source="f" * 64, shards=tuple(shards)
    )
    shard_index.store(tmp_path, made)
    return made


def test_reads_back_what_was_stored(tmp_path: Path, index: Index) -> None:
    assert shard_index.load(tmp_path) == index
    content = json.loads((tmp_path / "index.json").read_text())
    assert content["schema_version"] == 1
    assert content["shards"][1] == {
        "file": NAMES[1],
        "examples": 1,
        "size_bytes": 4,
        "sha256": "0" * 64,
    }


def test_names_say_which_of_how_many() -> None:
    assert shard_index.shard_name("train", 0, 8) == "train-00000-of-00008.tfrecord"


def test_a_missing_shard_is_named(tmp_path: Path, index: Index) -> None:
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(DataError, match=rf"{NAMES[1]}: is missing. Convert"):
        shard_index.load(tmp_path)


def test_an_extra_shard_is_named(tmp_path: Path, index: Index) -> None:
    (tmp_path / "more.tfrecord").touch()
    with pytest.raises(DataError, match=r"more\.tfrecord: is not in index\.json; move it out"):
        shard_index.load(tmp_path)


def test_a_shard_of_another_size_is_named(tmp_path: Path, index: Index) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"123")
    with pytest.raises(DataError, match=rf"{NAMES[0]}: has 3 bytes, index\.json says 4"):
        shard_index.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, r"schema_version"),
        ({"kind": "sound"}, r"\$\.kind"),
        ({"shards": []}, r"\$\.shards"),
        ({"source": "x"}, r"\$\.source"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_an_index_of_another_schema_is_named(
    tmp_path: Path, index: Index, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=rf"index\.json: .*{reason}"):
        shard_index.load(tmp_path)


@pytest.mark.parametrize("name", ["../x.tfrecord", "/x.tfrecord", "a\\x.tfrecord", "x.txt"])
def test_a_shard_elsewhere_is_refused(tmp_path: Path, index: Index, name: str) -> None:
    path = tmp_path / "index.json"
    content = json.loads(path.read_text())
    content["shards"][0]["file"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"index\.json: .*file"):
        shard_index.load(tmp_path)


def test_a_shard_listed_twice_is_refused(tmp_path: Path, index: Index) -> None:
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace(NAMES[1], NAMES[0]))
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(DataError, match=r"index\.json: lists a shard twice"):
        shard_index.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"kind": "\xff"}'])
def test_what_is_no_index_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.json: .*Convert the data again"):
        shard_index.load(tmp_path)


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"index\.json: No such file"):
        shard_index.load(tmp_path)
