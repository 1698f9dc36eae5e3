"""Law: each kind of data set gives the same examples through the one door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.errors import InputError
from finetune.data import convert, jsonl, source
from finetune.data.convert import Conversion
from finetune.errors import DataError
from finetune.progress import Silent

LABELS = ("negative", "positive")
ROWS = [("a fine film", "positive"), ("bad", "negative"), ("so, so\nso", "positive")]


@pytest.fixture(params=["jsonl", "csv", "tsv", "tfrecord"])
def texts(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"train.{request.param}"
    if request.param in ("csv", "tsv"):
        mark = "," if request.param == "csv" else "\t"
        rows = [("text", "label"), *ROWS]
        path.write_text("".join(f'"{text}"{mark}{label}\n' for text, label in rows))
        return path
    lines = tmp_path / "train.jsonl"
    jsonl.write(lines, ROWS)
    if request.param == "jsonl":
        return lines
    convert.run(Conversion(source=lines, target=path, shards=1), Silent())
    return path


@pytest.fixture(params=["image_folder", "tfrecord"])
def pictures(
    request: pytest.FixtureRequest, tmp_path: Path, make_pictures: Callable[..., Path]
) -> Path:
    folder = make_pictures(tmp_path / "train", {"a": 2, "b": 1})
    if request.param == "image_folder":
        return folder
    target = tmp_path / "shards"
    convert.run(Conversion(source=folder, target=target, shards=1), Silent())
    return target


def test_texts_of_every_kind_are_the_same(texts: Path) -> None:
    examples = source.read_text(texts, ("positive", "negative"))
    assert examples.texts == tuple(text for text, _ in ROWS)
    assert examples.labels == (0, 1, 0)
    assert source.labels_of(texts) == LABELS
    assert not source.holds_images(texts)


def test_texts_of_every_kind_are_checked(texts: Path) -> None:
    def check(text: str) -> None:
        if text == "bad":
            raise InputError("text", "is bad; be good")

    with pytest.raises(DataError, match=r"train.*(line \d|byte \d+): text: is bad; be good"):
        source.read_text(texts, LABELS, check)


def test_pictures_of_every_kind_are_the_same(pictures: Path) -> None:
    found = source.read_images(pictures, ("b", "a"))
    assert found.labels == (1, 1, 0)
    assert source.labels_of(pictures) == ("a", "b")
    assert source.holds_images(pictures)


def test_texts_are_no_pictures(texts: Path) -> None:
    with pytest.raises(DataError, match="holds text"):
        source.read_images(texts, LABELS)


def test_pictures_are_no_texts(pictures: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder of pictures|holds image examples"):
        source.read_text(pictures, ("a", "b"))


def test_the_hash_is_of_the_content(tmp_path: Path, texts: Path) -> None:
    before = source.sha256(texts)
    elsewhere = texts.rename(tmp_path / f"moved{texts.suffix}")
    assert source.sha256(elsewhere) == before
    content = elsewhere / "index.json" if elsewhere.is_dir() else elsewhere
    content.write_bytes(content.read_bytes() + b"\n")
    assert source.sha256(elsewhere) != before


def test_the_hash_of_pictures_covers_names_and_content(
    tmp_path: Path, make_pictures: Callable[..., Path]
) -> None:
    folder = make_pictures(tmp_path / "train", {"a": 2, "b": 1})
    hashes = {source.sha256(folder)}
    (folder / "a" / "0.jpg").rename(folder / "b" / "1.jpg")
    hashes.add(source.sha256(folder))
    (folder / "b" / "1.jpg").write_bytes((folder / "b" / "0.jpg").read_bytes())
    hashes.add(source.sha256(folder))
    assert len(hashes) == 3


def test_an_unknown_kind_is_told_which_there_are(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.touch()
    for read in (source.kind_of, source.labels_of, source.holds_images):
        with pytest.raises(DataError, match=r"no known kind.*\.jsonl, \.csv or \.tsv.*TFRecord"):
            read(path)
    with pytest.raises(DataError, match=r"missing: No such file or directory\. Name a data set"):
        source.kind_of(tmp_path / "missing")


def test_shards_of_a_killed_conversion_are_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "train-00000-of-00002.tfrecord").touch()
    for read in (source.kind_of, source.labels_of, source.holds_images):
        with pytest.raises(DataError, match=r"holds shards without index\.json; convert once more"):
            read(tmp_path)


def test_columns_with_other_names(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("query,category\nhello,greeting\n")
    columns = {"text_column": "query", "label_column": "category"}
    assert source.labels_of(path, **columns) == ("greeting",)
    assert source.read_text(path, ("greeting",), **columns).labels == (0,)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", '{"text": "a", "label": 10}\n{"text": "b", "label": 2}\n'),
        ("x.csv", "text,label\na,10\nb,2\n"),
    ],
)
def test_indices_name_themselves(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    labels = source.labels_of(path)
    assert labels == tuple(str(number) for number in range(11))
    assert source.read_text(path, labels).labels == (10, 2)


def test_lines_that_break_the_format_are_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'{"text": "a", "label": "b"}\n[\n"\xff"\n{"label": [1]}\n7\n' + b"[" * 100_000
    )
    assert source.labels_of(path) == ("b",)
    with pytest.raises(DataError, match="line 2: not JSON"):
        source.read_text(path, ("b",))
