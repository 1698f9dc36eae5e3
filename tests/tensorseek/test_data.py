"""Laws of `tensorseek data`: it converts and inspects without TensorFlow, one line an error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.data import jsonl
from finetune.data.service import distribute

_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from tensorseek.cli import main
main()
"""


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    jsonl.write(path, [(f"text {number}", "ab"[number % 2]) for number in range(20)])
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _WITHOUT_TENSORFLOW, "data", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_convert_tells_what_it_made(tmp_path: Path, train: Path) -> None:
    done = run("convert", train, tmp_path / "out", "--shards", 2, "--json")
    answer = json.loads(done.stdout)
    assert answer["kind"] == "text"
    assert answer["labels"] == ["a", "b"]
    assert (answer["shards"], answer["examples"]) == (2, 20)
    files = (tmp_path / "out").glob("*.tfrecord")
    assert answer["size_bytes"] == sum(path.stat().st_size for path in files)
    again = run("convert", train, tmp_path / "out", "--shards", 2)
    assert again.stdout.endswith("out: 20 text examples, 2 labels, 2 shards, 0.0 MB\n")


def test_inspect_tells_what_is_there(tmp_path: Path, train: Path) -> None:
    test = tmp_path / "test.csv"
    test.write_text("query,category\ntext 1,b\nText  1,a\n")
    other = tmp_path / "test.jsonl"
    jsonl.write(other, [("text 1", "b")])
    plot = tmp_path / "data.png"
    done = run("inspect", train, other, "--plot", plot)
    assert "train.jsonl (jsonl): 20 examples" in done.stdout
    assert "labels: a 10, b 10; imbalance 1" in done.stdout
    assert f"1 examples of {other} are in {train} too" in done.stdout
    assert plot.stat().st_size > 1000
    names = ("--text-column", "query", "--label-column", "category")
    (split,) = json.loads(run("inspect", test, "--json", *names).stdout)["splits"]
    assert split["copies"] == {"examples": 1, "conflicting": 1, "shown": ["Text 1"]}


def test_shards_show_their_skew(tmp_path: Path, train: Path) -> None:
    run("convert", train, tmp_path / "out", "--shards", 2)
    done = run("inspect", tmp_path / "out")
    assert "2 shards: largest 1" in done.stdout


def test_an_error_is_one_line(tmp_path: Path, train: Path) -> None:
    train.write_text(train.read_text() + "{}\n")
    for command in (["convert", train, tmp_path / "out"], ["inspect", train]):
        done = run(*command)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"tensorseek: {train}, line 21: `text` is missing")


def test_serve_prepares_batches_until_ctrl_c(tmp_path: Path) -> None:
    import tensorflow as tf

    command = [sys.executable, "-m", "tensorseek.cli", "data", "serve", "--workers", "1"]
    with subprocess.Popen(
        [*command, "--runs", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        dataset = distribute(tf.data.Dataset.range(10), address, "job")
        assert sorted(int(example) for example in dataset) == list(range(10))
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
