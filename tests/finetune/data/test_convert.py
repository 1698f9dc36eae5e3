"""Laws of conversion: every example once, shards alike, the same bytes; killed, it goes on.

killed after its first shard ✗   killed inside a shard ✗   done, byte for byte as in one go
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import convert, jsonl, shard_index, tfrecord, unfinished
from finetune.data.convert import Conversion
from finetune.errors import DataError
from finetune.progress import Advance, Silent

LABELS = ("negative", "positive")
ROWS = [(f"text {number} {'x' * (number % 17)}", LABELS[number % 2]) for number in range(50)]

_JOB = """
import contextlib, os, sys
from pathlib import Path
from finetune.data import convert
from finetune.progress import Silent

class Deadly(Silent):
    @contextlib.contextmanager
    def counted(self, title, total):
        def advance(count=1, note=""):
            if bool(note) == (sys.argv[3] == "after a shard"):
                os.kill(os.getpid(), 9)
        yield advance

job = convert.Conversion(source=Path(sys.argv[1]), target=Path(sys.argv[2]), shards=3)
convert.run(job, Deadly())
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    jsonl.write(path, ROWS)
    return path


class Counted(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.total = 0

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[Advance]:
        def advance(count: int = 1, note: str = "") -> None:
            self.counts.append(count)

        self.total = total
        yield advance


def run(source: Path, target: Path, **settings: int) -> shard_index.Index:
    return convert.run(Conversion(source=source, target=target, **settings), Silent())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 9))
def test_every_example_lies_in_one_shard_and_shards_are_alike(sizes: list[int], count: int) -> None:
    members = convert.balanced(sizes, count)
    assert len(members) == count
    assert sorted(chain.from_iterable(members)) == list(range(len(sizes)))
    assert all(shard == sorted(shard) for shard in members)
    totals = [sum(sizes[member] for member in shard) for shard in members]
    assert max(totals) - min(totals) <= max(sizes)


def test_texts_come_out_as_they_went_in(source: Path, tmp_path: Path) -> None:
    index = run(source, tmp_path / "out", shards=4)
    assert sorted(content(tmp_path / "out")) == ["index.json"] + [
        f"train-0000{number}-of-00004.tfrecord" for number in range(4)
    ]
    assert index == shard_index.load(tmp_path / "out")
    found = tfrecord.read_text(tmp_path / "out", LABELS)
    named = [LABELS[label] for label in found.labels]
    assert Counter(zip(found.texts, named, strict=True)) == Counter(ROWS)


def test_one_shard_keeps_the_order(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", shards=1)
    assert tfrecord.read_text(tmp_path / "out", LABELS) == jsonl.read(source, LABELS)


def test_pictures_come_out_as_they_went_in(
    tmp_path: Path, make_pictures: Callable[..., Path]
) -> None:
    folder = make_pictures(tmp_path / "train", {"a": 5, "b": 4})
    run(folder, tmp_path / "out", shards=2)
    found = tfrecord.read_images(tmp_path / "out", ("a", "b"))
    pictures = {path.read_bytes() for path in folder.rglob("*.*")}
    assert {picture.read() for picture in found.pictures} == pictures
    assert Counter(found.labels) == {0: 5, 1: 4}


def test_shards_are_shared_out_anew(tmp_path: Path, make_pictures: Callable[..., Path]) -> None:
    folder = make_pictures(tmp_path / "train", {"a": 5, "b": 4})
    run(folder, tmp_path / "two", shards=2)
    run(tmp_path / "two", tmp_path / "three", shards=3)
    first, second = (
        Counter(picture.sha256 for picture in tfrecord.read_images(path, ("a", "b")).pictures)
        for path in (tmp_path / "two", tmp_path / "three")
    )
    assert first == second


def test_the_same_data_makes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "a", shards=3)
    run(source, tmp_path / "b", shards=3)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_size_decides_the_number_of_shards(source: Path, tmp_path: Path) -> None:
    assert len(run(source, tmp_path / "a").shards) == 1
    total = sum(len(text) for text, _ in ROWS)
    assert len(run(source, tmp_path / "b", shard_bytes=total // 5).shards) == 6
    assert len(run(source, tmp_path / "c", shard_bytes=1).shards) == len(ROWS)


def test_progress_counts_every_example_also_of_whole_shards(tmp_path: Path) -> None:
    source = tmp_path / "train.jsonl"
    jsonl.write(source, [(f"text {number}", LABELS[number % 2]) for number in range(777)])
    for _ in range(2):
        progress = Counted()
        convert.run(Conversion(source=source, target=tmp_path / "out", shards=3), progress)
        assert (sum(progress.counts), progress.total) == (777, 777)


def test_a_finished_conversion_is_not_done_again(source: Path, tmp_path: Path) -> None:
    first = run(source, tmp_path / "out", shards=3)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tfrecord")}
    assert run(source, tmp_path / "out", shards=3) == first
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.tfrecord")}
    assert before == after


def test_a_damaged_or_lost_shard_is_made_again(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", shards=3)
    whole = content(tmp_path / "out")
    first, second, _ = sorted((tmp_path / "out").glob("*.tfrecord"))
    first.write_bytes(bytes(len(first.read_bytes())))
    second.unlink()
    run(source, tmp_path / "out", shards=3)
    assert content(tmp_path / "out") == whole


def start(source: Path, target: Path, point: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", _JOB, str(source), str(target), point]
    return subprocess.Popen(command, env=environment)


def test_killed_after_a_shard_it_keeps_that_shard(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    with start(source, target, "after a shard") as child:
        assert child.wait(60) == -signal.SIGKILL
    assert not (target / "index.json").exists()
    notes = [json.loads(path.read_bytes()) for path in target.glob(".*.tfrecord.json")]
    whole = {note["shard"]["file"] for note in notes}
    assert whole
    before = {name: (target / name).stat().st_mtime_ns for name in whole}
    run(source, target, shards=3)
    assert {name: (target / name).stat().st_mtime_ns for name in whole} == before
    run(source, tmp_path / "once", shards=3)
    assert content(target) == content(tmp_path / "once")


def test_killed_inside_a_shard_it_leaves_no_part_of_it(tmp_path: Path) -> None:
    source, target = tmp_path / "train.jsonl", tmp_path / "out"
    jsonl.write(source, [(f"text {number}", LABELS[number % 2]) for number in range(1000)])
    with start(source, target, "inside a shard") as child:
        assert child.wait(60) == -signal.SIGKILL
    assert list(target.glob(".*.tmp"))
    assert not (target / "index.json").exists()
    run(source, target, shards=3)
    run(source, tmp_path / "once", shards=3)
    assert content(target) == content(tmp_path / "once")


def test_a_folder_that_holds_something_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match=r"thesis\.txt: is not of this conversion; name an empty"):
        run(source, target)
    assert [path.name for path in target.iterdir()] == ["thesis.txt"]


def test_another_data_set_is_not_written_over(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out", shards=3)
    whole = content(tmp_path / "out")
    with pytest.raises(DataError, match="out: holds another data set; remove it"):
        run(source, tmp_path / "out", shards=2)
    jsonl.write(source, ROWS[:-1])
    with pytest.raises(DataError, match="out: holds another data set; remove it"):
        run(source, tmp_path / "out", shards=3)
    assert content(tmp_path / "out") == whole


def test_only_one_conversion_writes_to_a_folder(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        unfinished.locked(tmp_path / "out"),
        pytest.raises(DataError, match="out: another conversion writes to it"),
    ):
        run(source, tmp_path / "out")
    run(source, tmp_path / "out")


def test_a_bad_line_stops_it_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    with source.open("a") as file:
        file.write("{}\n")
    with pytest.raises(DataError, match=r"train\.jsonl, line 51: `text` is missing"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"shards": 0}, "shards: 0 is not 1 to 99999"),
        ({"shards": 100_000}, "shards: 100000 is not 1 to"),
        ({"shard_bytes": 0}, "shard_bytes: 0 is too small"),
        ({"shards": 1, "shard_bytes": 1}, "shards and shard_bytes: both are given"),
        ({"shards": 51}, "shards: 51 are more than the 50 examples"),
    ],
)
def test_settings_out_of_range_are_named(
    source: Path, tmp_path: Path, settings: dict[str, int], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        run(source, tmp_path / "out", **settings)


def test_the_source_is_no_target(source: Path) -> None:
    for target in (source, source / "out"):
        with pytest.raises(DataError, match="is the source or lies in it; name another folder"):
            run(source, target)
