"""Laws of the request log: a line for each input, and bounds on disk and in memory that hold."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bundle.postprocess import LabelScore
from serving.errors import InvalidArgument
from serving.gateway import config
from serving.gateway.predictor import Answer, Outcome
from serving.gateway.request_log import RequestLog

BEST = [LabelScore("positive", 0.75), LabelScore("negative", 0.25)]


def answer(*outcomes: Outcome) -> Answer:
    return Answer(version=3, outcomes=outcomes, preprocess_s=0.0, backend_s=0.0, batches=[1])


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Dropped:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def write(settings: config.RequestLog, texts: Sequence[str | bytes], **options: Any) -> int:
    """Logs a call for each text; how many lines were dropped."""
    dropped = Dropped()
    log = RequestLog(settings, dropped, **options)
    for text in texts:
        log.write("tiny", answer(BEST), [text])
    log.close()
    return dropped.count


def test_each_input_that_got_labels_is_a_line(tmp_path: Path) -> None:
    settings = config.RequestLog(path=tmp_path / "log" / "requests.jsonl", payloads=True)
    log = RequestLog(settings, Dropped())
    outcomes = (BEST, InvalidArgument("inputs[1].text", "is empty"), BEST, {"logits": None})
    log.write("tiny", answer(*outcomes), ["a film", "", b"\xff\xd8", {}])
    log.close()
    first, second = written(settings.path)
    assert (first["model"], first["version"]) == ("tiny", 3)
    assert (first["labels"], first["scores"]) == (["positive", "negative"], [0.75, 0.25])
    assert first["input"] == "a film"
    assert base64.b64decode(second["input_base64"]) == b"\xff\xd8"
    assert len({first["id"], second["id"]}) == 2


def test_inputs_stay_out_unless_they_are_asked_for(tmp_path: Path) -> None:
    settings = config.RequestLog(path=tmp_path / "requests.jsonl")
    write(settings, ["a secret"])
    assert "secret" not in settings.path.read_text()
    assert len(written(settings.path)) == 1


def test_files_are_full_before_the_next_and_only_so_many_are_kept(tmp_path: Path) -> None:
    settings = config.RequestLog(
        path=tmp_path / "requests.jsonl", payloads=True, max_bytes=2000, max_files=3
    )
    assert write(settings, [f"text {number}" for number in range(200)]) == 0
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [
        "requests.jsonl",
        "requests.jsonl.1",
        "requests.jsonl.2",
        "requests.jsonl.3",
    ]
    longest = max(len(line) for path in files for line in path.read_bytes().splitlines()) + 1
    assert all(path.stat().st_size < 2000 + longest for path in files)
    newest = [line["input"] for path in reversed(files) for line in written(path)]
    assert newest == [f"text {number}" for number in range(200 - len(newest), 200)]


def test_workers_write_files_of_their_own(tmp_path: Path) -> None:
    settings = config.RequestLog(path=tmp_path / "requests.jsonl")
    write(settings, ["one"], worker=2)
    assert [path.name for path in tmp_path.iterdir()] == ["requests-2.jsonl"]


@pytest.mark.parametrize(("size", "most"), [(10, 10_000), (1 << 20, 32)])
def test_what_a_disk_does_not_take_is_dropped_and_counted_and_holds_up_nobody(
    tmp_path: Path, size: int, most: int
) -> None:
    path = tmp_path / "requests.jsonl"
    os.mkfifo(path)  # opening it to write waits for a reader: a disk that takes nothing
    dropped = Dropped()
    log = RequestLog(config.RequestLog(path=path, payloads=True), dropped)
    for _ in range(2 * most + 100):
        log.write("tiny", answer(BEST), ["x" * size])
    assert dropped.count >= most
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    path.unlink()  # what still waits goes into a file
    log.close()
    os.close(reader)


def test_a_disk_that_refuses_is_told_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    settings = config.RequestLog(path=tmp_path / "file" / "requests.jsonl")
    assert write(settings, ["one", "two"]) == 2
    assert "can't write the request log" in caplog.text


def test_settings_may_change_while_it_runs(tmp_path: Path) -> None:
    first, second = (config.RequestLog(path=tmp_path / name) for name in ("a", "b"))
    log = RequestLog(first, Dropped())
    log.write("tiny", answer(BEST), ["one"])
    log.apply(second)
    log.write("tiny", answer(BEST), ["two"])
    log.apply(None)
    log.write("tiny", answer(BEST), ["three"])
    assert [len(written(path.path)) for path in (first, second)] == [1, 1]
