"""Plain texts without labels, for language models.

*.txt     one document
*.jsonl   a document a line, under `text`
a folder  every *.txt in it, by name
"""

from __future__ import annotations

import json
from pathlib import Path

from finetune.errors import DataError


def read(path: Path) -> list[str]:
    """Reads every document.

    Raises:
        DataError: names the file, the line where there is one, and the reason.
    """
    if path.is_dir():
        paths = sorted(path.glob("*.txt"))
        if not paths:
            raise DataError(f"{path}: holds no .txt files; a language model is trained on text")
        return [_text(each) for each in paths]
    if path.suffix.lower() == ".txt":
        return [_text(path)]
    if path.suffix.lower() == ".jsonl":
        lines = _text(path).rstrip("\n").split("\n")
        return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    raise DataError(f"{path}: is no text for a language model; give a .txt or .jsonl file")


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Name a file that exists.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}; convert it") from error
    if not text.strip():
        raise DataError(f"{path}: is empty; it needs text")
    return text


def _row(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {' '.join(str(error).split())}") from error
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        chat = "; for `messages`, set data.format to chat" if "messages" in line else ""
        raise DataError(f"{where}: must be an object whose `text` is some text{chat}")
    return text
