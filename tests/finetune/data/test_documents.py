"""Laws of plain text: nothing is lost, and what can't be read is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.data import documents
from finetune.errors import DataError


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("To be,\n\nor not — to be.\n")
    assert documents.read(path) == ["To be,\n\nor not — to be.\n"]


def test_each_line_of_json_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one\\u2028still one"}\n{"text": "two", "label": 1}\n')
    assert documents.read(path) == ["one\u2028still one", "two"]


def test_a_folder_is_its_text_files_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "notes.md").write_text("not this")
    assert documents.read(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"", "is empty; it needs text"),
        ("a.txt", b" \n", "is empty; it needs text"),
        ("a.txt", b"ab\xff", "not UTF-8 at byte 2; convert it"),
        ("a.csv", b"text\na", "is no text for a language model"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}', "line 2: must be an object whose `text`"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"}', "line 2: not JSON"),
        ("a.jsonl", b'{"text": "a"}\nnot json', "line 2: not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("a.jsonl", b'["a"]', "line 1: must be an object"),
    ],
)
def test_what_cant_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        documents.read(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        documents.read(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"holds no \.txt files"):
        documents.read(tmp_path)
