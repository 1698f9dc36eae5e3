"""Labelled texts as JSON lines: {"text": "a fine film", "label": "positive"}."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle import atomic
from bundle.errors import InputError
from finetune.data import labels as label_names
from finetune.errors import DataError


@dataclass(frozen=True)
class Examples:
    """Texts with the index of each one's label."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)


def read(path: Path, labels: Sequence[str], check: Callable[[str], None] | None = None) -> Examples:
    """Reads and checks every line of a file.

    Args:
        path: UTF-8 JSON lines with `text`, and `label` as a name or as its index; other keys
            are ignored.
        labels: the names a label may have.
        check: raises InputError for a text that the model can't take.

    Raises:
        DataError: names file, line and reason of the first line that can't be used.
    """
    texts: list[str] = []
    indices: list[int] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Name a file that exists.") from error
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            text, label = _parse(line, labels)
            if check is not None:
                check(text)
        except (ValueError, InputError) as error:
            raise DataError(f"{path}, line {number}: {error}") from error
        texts.append(text)
        indices.append(label)
    if not texts:
        raise DataError(f"{path}: is empty; it needs at least one line")
    return Examples(tuple(texts), tuple(indices))


def write(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Writes (text, label) rows, all or nothing."""
    lines = (json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows)
    atomic.write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def _parse(line: bytes, labels: Sequence[str]) -> tuple[str, int]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    if not isinstance(row, dict):
        shown = line[:60].decode(errors="replace")
        raise ValueError(f"must be an object with `text` and `label`, not {shown}")  # noqa: TRY004
    for key in ("text", "label"):
        if key not in row:
            raise ValueError(f"`{key}` is missing; it has {sorted(row)}")
    text = row["text"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"`text` must be a non-empty string, not {text!r}")
    return text, label_names.index(row["label"], labels)
