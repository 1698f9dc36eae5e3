"""Laws of inspection: it finds what was put in: copies, conflicts, leaks, imbalance, skew."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from finetune.data import inspect, jsonl, plot, shard_index, tfrecord
from finetune.data.inspect import Report
from finetune.data.jsonl import Examples
from finetune.errors import DataError

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def split(folder: Path, name: str, rows: list[tuple[str, str]]) -> Path:
    path = folder / f"{name}.jsonl"
    jsonl.write(path, rows)
    return path


@pytest.fixture
def report(tmp_path: Path) -> Report:
    train = [("A fine film", "good"), ("a  fine FILM", "good"), ("bad", "bad"), ("so so", "good")]
    train += [("So so", "bad"), ("new", "good")]
    test = [("a fine film", "good"), ("unseen", "odd")]
    return inspect.inspect([split(tmp_path, "train", train), split(tmp_path, "test", test)])


def test_counts_and_balance(report: Report) -> None:
    train, test = report.splits
    assert train.labels == {"bad": 2, "good": 4, "odd": 0}
    assert train.imbalance == 2
    assert (train.examples, test.examples) == (6, 2)
    assert (train.kind, train.skew) == ("jsonl", None)


def test_copies_ignore_case_and_white_space(report: Report) -> None:
    copies = report.splits[0].copies
    assert copies.examples == 2
    assert copies.conflicting == 1
    assert copies.shown == ("a fine FILM", "So so")
    assert report.splits[1].copies.examples == 0


def test_leaks_between_splits(report: Report) -> None:
    (leak,) = report.leaks
    assert leak.examples == 1
    assert leak.shown == ("a fine film",)
    assert leak.first.endswith("train.jsonl")
    assert leak.second.endswith("test.jsonl")


def test_each_pair_of_splits_is_compared(tmp_path: Path) -> None:
    paths = [split(tmp_path, name, [("x", "a"), (name, "a")]) for name in ("train", "dev", "test")]
    leaks = inspect.inspect(paths).leaks
    assert [leak.examples for leak in leaks] == [1, 1, 1]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
@shared_folder
def test_the_histogram_holds_every_example(tmp_path: Path, lengths: list[int]) -> None:
    path = split(tmp_path, "train", [("x" * length, "a") for length in lengths])
    sizes = inspect.inspect([path]).splits[0].sizes
    assert (sizes.smallest, sizes.largest) == (min(lengths), max(lengths))
    assert len(sizes.edges) == len(sizes.counts) + 1 <= 21
    for low, high, count in zip(sizes.edges, sizes.edges[1:], sizes.counts, strict=False):
        assert count == sum(low <= length < high for length in lengths)
    assert sum(sizes.counts) == len(lengths)


def test_a_tokenizer_counts_tokens(tmp_path: Path, tokenizer_json: bytes) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_bytes(tokenizer_json)
    path = split(tmp_path, "train", [("a good film", "a")])
    sizes = inspect.inspect([path], tokenizer=tokenizer).splits[0].sizes
    assert (sizes.unit, sizes.largest) == ("tokens", 5)
    tokenizer.write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: not a tokenizers file"):
        inspect.inspect([path], tokenizer=tokenizer)


def test_pictures(tmp_path: Path, make_pictures: Callable[..., Path]) -> None:
    train = make_pictures(tmp_path / "train", {"a": 4, "b": 2})
    test = make_pictures(tmp_path / "test", {"b": 1, "c": 1}, seed=1)
    (test / "c" / "copy.jpg").write_bytes((train / "a" / "0.jpg").read_bytes())
    report = inspect.inspect([train, test])
    first, second = report.splits
    assert first.labels == {"a": 4, "b": 2, "c": 0}
    assert second.labels == {"a": 0, "b": 1, "c": 2}
    assert first.sizes.unit == "pixels of the longer side"
    assert 8 <= first.sizes.smallest <= first.sizes.largest < 40
    assert report.leaks[0].examples == 1
    assert report.leaks[0].shown == (str(test / "c" / "copy.jpg"),)


def test_skewed_shards_are_told(tmp_path: Path) -> None:
    """One shard has one label only, and is thrice as large."""
    parts = [Examples(("x" * 100,) * 3, (0, 0, 0)), Examples(("x" * 100,), (1,))]
    names = [shard_index.shard_name("train", number, 2) for number in range(2)]
    shards = [
        tfrecord.write_shard(tmp_path / name, part) for name, part in zip(names, parts, strict=True)
    ]
    index = shard_index.Index(
        schema_version=1, kind="text", labels=("a", "b"), source="0" * 64, shards=tuple(shards)
    )
    shard_index.store(tmp_path, index)
    skew = inspect.inspect([tmp_path]).splits[0].skew
    assert skew is not None
    assert (skew.shards, skew.label_distance) == (2, 0.75)
    assert skew.bytes_ratio == pytest.approx(3, abs=0.01)


def test_texts_and_pictures_are_not_one_data_set(
    tmp_path: Path, make_pictures: Callable[..., Path]
) -> None:
    paths = [split(tmp_path, "train", [("a", "a")]), make_pictures(tmp_path / "p", {"a": 1})]
    with pytest.raises(DataError, match="the splits hold texts and images"):
        inspect.inspect(paths)


def test_the_report_becomes_json(report: Report) -> None:
    assert json.loads(json.dumps(asdict(report)))["splits"][0]["examples"] == 6


def test_the_report_becomes_a_picture(tmp_path: Path, report: Report) -> None:
    plot.save(report, tmp_path / "data.png")
    with Image.open(tmp_path / "data.png") as image:
        assert image.width == 1200
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert max(colours)[1] == (255, 255, 255)
    assert (47, 111, 159) in {colour for _, colour in colours}  # there are bars


def test_many_long_labels_fit_in_the_picture(tmp_path: Path) -> None:
    rows = [("a", f"{'long' * 40} {number}") for number in range(77)]
    plot.save(inspect.inspect([split(tmp_path, "t", rows)]), tmp_path / "data.png")
    with Image.open(tmp_path / "data.png") as image:
        assert image.height < 1200


@pytest.mark.parametrize("name", ["data.txt", "missing/data.png"])
def test_a_picture_that_cant_be_written_is_named(tmp_path: Path, report: Report, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: .*; name a file such as data\.png"):
        plot.save(report, tmp_path / name)
