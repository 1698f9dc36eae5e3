"""Laws of shards: what goes in comes out, and every damage is named with its file and place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.errors import InputError
from finetune.data import example, image_folder, records, shard_index, tfrecord
from finetune.data.images import Images
from finetune.data.jsonl import Examples
from finetune.data.shard_index import Index
from finetune.errors import DataError

LABELS = ("negative", "positive")
TEXTS = Examples(("a fine film", "bad", "zut ! é"), (1, 0, 1))
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(
    folder: Path, *contents: Examples | Images, labels: tuple[str, ...] = LABELS
) -> list[Path]:
    """A data set of one shard for each content."""
    folder.mkdir(exist_ok=True)
    names = [shard_index.shard_name("train", n, len(contents)) for n in range(len(contents))]
    shards = [
        tfrecord.write_shard(folder / name, content)
        for name, content in zip(names, contents, strict=True)
    ]
    index = Index(
        schema_version=1,
        kind=tfrecord.kind_of(contents[0]),
        labels=labels,
        source="0" * 64,
        shards=tuple(shards),
    )
    shard_index.store(folder, index)
    return [folder / name for name in names]


def replace(path: Path, payload: bytes) -> None:
    """A shard of one record, listed as such."""
    path.write_bytes(records.frame(payload))
    index = shard_index.parse(path.parent)
    shard = shard_index.Shard(
        file=path.name, examples=1, size_bytes=path.stat().st_size, sha256="0" * 64
    )
    shard_index.store(
        path.parent,
        Index(
            schema_version=1,
            kind=index.kind,
            labels=index.labels,
            source=index.source,
            shards=(shard,),
        ),
    )


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
contents = st.lists(st.tuples(texts, st.integers(0, 1)), min_size=1, max_size=6).map(
    lambda rows: Examples(tuple(row[0] for row in rows), tuple(row[1] for row in rows))
)


@given(st.lists(contents, min_size=1, max_size=3))
@shared_folder
def test_texts_read_back_in_order(tmp_path: Path, shards: list[Examples]) -> None:
    for path in tmp_path.glob("*.tfrecord"):
        path.unlink()
    write(tmp_path, *shards)
    found = tfrecord.read_text(tmp_path, LABELS)
    assert found.texts == sum((shard.texts for shard in shards), ())
    assert found.labels == sum((shard.labels for shard in shards), ())


def test_pictures_read_back(tmp_path: Path, make_pictures: Callable[..., Path]) -> None:
    folder = make_pictures(tmp_path / "pictures", {"a": 3, "b": 2})
    whole = image_folder.read(folder, ("a", "b"))
    write(tmp_path / "shards", whole, labels=("a", "b"))
    found = tfrecord.read_images(tmp_path / "shards", ("a", "b"))
    assert found.labels == whole.labels
    for ours, theirs in zip(found.pictures, whole.pictures, strict=True):
        assert ours.read() == theirs.read()
        assert (ours.height, ours.width) == (theirs.height, theirs.width)
        assert ours.sha256 == theirs.sha256


def test_tensorflow_reads_the_shards(tmp_path: Path, make_pictures: Callable[..., Path]) -> None:
    import tensorflow as tf

    whole = image_folder.read(make_pictures(tmp_path / "p", {"a": 3}), ("a",))
    (path,) = write(tmp_path / "shards", whole, labels=("a",))
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "height": tf.io.FixedLenFeature([], tf.int64),
        "width": tf.io.FixedLenFeature([], tf.int64),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    for record, picture in zip(tf.data.TFRecordDataset(str(path)), whole.pictures, strict=True):
        values = tf.io.parse_single_example(record, features)
        assert values["image"].numpy() == picture.read()
        shape = tf.io.decode_image(values["image"], channels=3, expand_animations=False).shape
        assert tuple(shape) == (values["height"], values["width"], 3)


def test_labels_go_by_name(tmp_path: Path) -> None:
    write(tmp_path / "s", TEXTS)
    assert tfrecord.read_text(tmp_path / "s", ("positive", "x", "negative")).labels == (0, 2, 0)
    with pytest.raises(DataError, match=r"index\.json: has the label 'negative'"):
        tfrecord.read_text(tmp_path / "s", ("positive", "x"))


def test_the_kinds_are_not_mixed_up(tmp_path: Path) -> None:
    write(tmp_path / "s", TEXTS)
    with pytest.raises(DataError, match="s: holds text examples, not image"):
        tfrecord.read_images(tmp_path / "s", LABELS)


def test_damage_is_told_with_file_and_offset(tmp_path: Path) -> None:
    _, second = write(tmp_path / "s", TEXTS, TEXTS)
    content = bytearray(second.read_bytes())
    offset = [record.offset for record in records.scan(second)][1]
    content[offset + 20] ^= 1
    second.write_bytes(content)
    for read in (tfrecord.check_records, lambda folder: tfrecord.read_text(folder, LABELS)):
        with pytest.raises(
            DataError, match=rf"train-00001-of-00002\.tfrecord, byte {offset}: .*CRC"
        ):
            read(tmp_path / "s")


def test_a_whole_data_set_passes_the_check(tmp_path: Path) -> None:
    write(tmp_path / "s", TEXTS, TEXTS)
    index = tfrecord.check_records(tmp_path / "s")
    assert [shard.examples for shard in index.shards] == [3, 3]


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"text": b"a", "label": 2}, "`label` is 2"),
        ({"text": b"a", "label": -1}, "`label` is -1"),
        ({"text": b"a"}, "`label` must be one int"),
        ({"text": 3, "label": 0}, "`text` must be one bytes"),
        ({"text": b"\xff", "label": 0}, "'utf-8' codec can't decode"),
        ({"text": b" ", "label": 0}, "`text` must be a non-empty string"),
        ({"text": b"too long", "label": 0}, "text: is too long"),
    ],
)
def test_a_record_that_cant_be_used_is_named(
    tmp_path: Path, features: dict[str, bytes | int], reason: str
) -> None:
    def check(text: str) -> None:
        if len(text) > 5:
            raise InputError("text", "is too long; shorten it")

    (path,) = write(tmp_path / "s", TEXTS)
    replace(path, example.encode(features))
    with pytest.raises(DataError, match=rf"00001\.tfrecord, byte 0: {reason}"):
        tfrecord.read_text(tmp_path / "s", LABELS, check)


@pytest.mark.parametrize("broken", [{"image": b""}, {"height": 0}, {"width": -1}])
def test_an_empty_picture_is_named(tmp_path: Path, broken: dict[str, bytes | int]) -> None:
    (path,) = write(tmp_path / "s", Images((), ()))
    whole: dict[str, bytes | int] = {"image": b"x", "height": 1, "width": 1, "label": 0}
    replace(path, example.encode(whole | broken))
    with pytest.raises(DataError, match="byte 0: the picture is empty"):
        tfrecord.read_images(tmp_path / "s", LABELS)


def test_a_wrong_count_is_named(tmp_path: Path) -> None:
    (path,) = write(tmp_path / "s", TEXTS)
    replace(path, example.encode({"text": b"a", "label": 0}))
    index = (tmp_path / "s" / "index.json").read_text()
    (tmp_path / "s" / "index.json").write_text(index.replace('"examples": 1', '"examples": 2'))
    with pytest.raises(DataError, match=r"tfrecord: has 1 records, index\.json says 2"):
        tfrecord.read_text(tmp_path / "s", LABELS)


def test_the_same_content_makes_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, TEXTS)[0].read_bytes() for name in ("a", "b"))
    assert first == second
    assert not list((tmp_path / "a").glob(".*"))
