"""Conversations as JSON lines: {"messages": [{"role": "user", "content": "Hello"}, …]}."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from finetune.errors import DataError

_FORMAT = '{"messages": [{"role": "system, user or assistant", "content": "text"}, …]}'


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one side says."""

    role: Literal["system", "user", "assistant"]
    content: str


class _Line(msgspec.Struct, frozen=True):
    messages: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1)]


Conversation = tuple[Message, ...]


def read(path: Path) -> list[Conversation]:
    """Reads and checks every line of a file.

    Raises:
        DataError: names file, line, field and reason of the first that can't be used.
    """
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"{path}: conversations come from a .jsonl file; give one")
    try:
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Name a file that exists.") from error
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _parse(line: bytes, where: str) -> Conversation:
    try:
        messages = msgspec.json.decode(line, type=_Line).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{where}: {error}; write {_FORMAT}") from error
    for place, message in enumerate(messages):
        if message.role == "assistant" and not message.content.strip():
            raise DataError(f"{where}: `messages[{place}].content` is empty; write what to answer")
    if all(message.role != "assistant" for message in messages):
        raise DataError(f"{where}: `messages` has none of the assistant; there is nothing to learn")
    return messages
