"""The gateway's request log, read back as data once a person has added labels.

    {"model": "movie-sentiment", "input": "a fine film", "labels": […], …, "label": "positive"}

A line without `label` is not data yet; a line of another model, or without the payload, is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.errors import InputError
from finetune.data import labels as label_names
from finetune.errors import DataError
from finetune.recipe import Recipe
from finetune.refresh import items
from finetune.refresh.items import Item

_MOST_BYTES = 1 << 20  # of a line


@dataclass(frozen=True)
class Read:
    """What a log holds."""

    items: list[Item]
    unlabelled: int  # lines of this model that nobody has labelled


def read(path: Path, recipe: Recipe, check: Callable[[str], None] | None = None) -> Read:
    """The labelled texts that a log of requests holds.

    Raises:
        DataError: names the file, the line and the reason.
    """
    found: list[Item] = []
    unlabelled = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):  # the gateway is still writing it
                    break
                try:
                    row = _row(line)
                    text = _text(row, recipe.name)
                    if text is None:
                        continue
                    if "label" not in row:
                        unlabelled += 1
                        continue
                    if check is not None:
                        check(text)
                    found.append(
                        items.of_text(text, label_names.index(row["label"], recipe.data.labels))
                    )
                except (ValueError, InputError) as error:
                    raise DataError(f"{path}, line {number}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Make it readable.") from error
    return Read(found, unlabelled)


def _row(line: bytes) -> dict[str, Any]:
    if len(line) > _MOST_BYTES:
        raise ValueError(f"has {len(line)} bytes, the limit is {_MOST_BYTES}; remove it")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}; remove or mend it") from error
    if not isinstance(row, dict):
        raise ValueError("must be an object; remove or mend it")  # noqa: TRY004
    return row


def _text(row: dict[str, Any], model: str) -> str | None:
    text = row.get("input")
    if row.get("model") != model or not isinstance(text, str) or not text.strip():
        return None
    return text
