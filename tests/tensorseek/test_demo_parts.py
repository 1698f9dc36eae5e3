"""Laws of the demo's parts: a wrong file is a sentence, logins are kept, curves heal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundle.repository import ModelRepository
from tensorseek import stack
from tensorseek.demo import batch, login, training_tab
from tensorseek.demo.answers import Cloud, Edge
from tensorseek.demo.context import Context


@pytest.fixture
def context(tmp_path: Path) -> Context:
    cloud = Cloud(f"127.0.0.1:{stack.free_ports().gateway}")
    return Context(
        cloud=cloud, edge=Edge(tmp_path), repository=ModelRepository(tmp_path), runs=tmp_path
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,label\n1,2\n", "no column `text`"),
        (b"text\n", "no rows"),
        (b"text\n\xff\n", "not UTF-8 at byte 5"),
        (b'text\n"open', "no CSV"),
        (b"text,b\nonly one\n", "Line 2"),
        (b"text\n" + b"a\n" * (batch.MOST_ROWS + 1), "more than 10000 rows"),
        (b"text\n" + b"x" * batch.MOST_BYTES, "the limit is"),
    ],
)
def test_a_file_that_can_not_be_used_is_a_sentence(
    context: Context, tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "texts.csv").write_bytes(content)
    with pytest.raises(batch.BatchError, match=said):
        batch.classify(context, "tiny", tmp_path / "texts.csv", lambda *_: None)


def test_rows_without_an_answer_say_why(context: Context, tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text\na film\n")
    told: list[float] = []
    found = batch.classify(
        context, "tiny", tmp_path / "texts.csv", lambda share, _: told.append(share)
    )
    assert found.summary.startswith("1 rows: 0 answered")
    assert "is away" in found.path.read_text()
    assert told == [1.0]


def logins(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_who_is_in_the_file_may_enter(tmp_path: Path) -> None:
    may_enter = login.read(logins(tmp_path / "logins", "# people\nann:correct horse:1\n\n"))
    assert may_enter("ann", "correct horse:1")
    for name, password in (("ann", "correct horse"), ("bob", "\0" * 8), ("", ""), ("ann", "")):
        assert not may_enter(name, password)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        ("ann:correct horse\n", 0o604, "everybody can read it"),
        ("ann\n", 0o600, "line 1: write name:password"),
        ("ann:short\n", 0o600, "at least 8"),
        ("\n", 0o600, "has no line"),
    ],
)
def test_a_file_of_logins_must_be_safe(tmp_path: Path, content: str, mode: int, said: str) -> None:
    with pytest.raises(login.LoginError, match=said):
        login.read(logins(tmp_path / "logins", content, mode))


def test_a_training_that_was_taken_up_has_one_curve(tmp_path: Path) -> None:
    rows: list[Any] = [
        '{"step": 10, "loss": 3.0, "learning_rate": 0.1}',
        '{"step": 20, "loss": 2.0, "learning_rate": 0.2}',
        '{"step": 20, "loss": 1.5, "learning_rate": 0.2}',
        '{"step": 20, "dev_score": 0.5}',
        '{"step": 30, "lo',
    ]
    path = tmp_path / "tiny" / "job" / "logs" / "curve.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(rows))
    found = training_tab.read(path)
    assert (found.losses, found.scores, found.steps) == ([3.0, 1.5], [0.5], 20)
    assert training_tab.runs(tmp_path) == ["tiny/job"]
