"""Law of conversations: what can't be used is named by file, line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.data import conversations
from finetune.errors import DataError

HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Good day"}


def test_every_line_is_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"messages": [HELLO, ANSWER], "source": "x"}, {"messages": [HELLO, ANSWER] * 2}]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    first, second = conversations.read(path)
    assert [(each.role, each.content) for each in first] == [
        ("user", "Hello"),
        ("assistant", "Good day"),
    ]
    assert len(second) == 4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "a"}', "Object missing required field `messages`"),
        ('{"messages": []}', r"Expected `array` of length >= 1 - at `\$\.messages`"),
        ('{"messages": [{"role": "user"}]}', r"required field `content` - at `\$\.messages\[0\]`"),
        (
            json.dumps({"messages": [HELLO, {"role": "bot", "content": "x"}]}),
            r"Invalid enum value 'bot' - at `\$\.messages\[1\]\.role`; write",
        ),
        (json.dumps({"messages": [HELLO | {"tool_calls": []}]}), "unknown field `tool_calls`"),
        (json.dumps({"messages": [HELLO]}), "`messages` has none of the assistant"),
        (
            json.dumps({"messages": [HELLO, ANSWER | {"content": " "}]}),
            r"`messages\[1\]\.content` is empty",
        ),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate|truncated"),
        ("", "truncated"),
        ('{"a": ' + "[" * 100_000, "recursion"),
    ],
)
def test_what_can_not_be_used_is_named(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": [HELLO, ANSWER]}) + "\n" + line + "\n")
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2: .*(?i:{expected})"):
        conversations.read(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        conversations.read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"a\.txt: conversations come from a \.jsonl file"):
        conversations.read(tmp_path / "a.txt")
