"""The gateway's request log, read back as data once a person has added labels.

    {"model": "movie-sentiment", "input": "a fine film", "labels": […], …, "label": "positive"}
    {"model": "clothing", "input_base64": "/9j/4AAQ…", "labels": […], …, "label": "shirt"}

A line without `label` is not data yet; a line of another model, or without the payload, is none.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.errors import InputError
from finetune.data import images
from finetune.data import labels as label_names
from finetune.errors import DataError
from finetune.recipe import Recipe
from finetune.refresh import items
from finetune.refresh.items import Item

_MOST_BYTES = 8 << 20  # of a line: a picture of as many bytes as a gateway takes, in base64


@dataclass(frozen=True)
class Read:
    """What a log holds."""

    items: list[Item]
    unlabelled: int  # lines of this model that nobody has labelled


def read(path: Path, recipe: Recipe, check: Callable[[str], None] | None = None) -> Read:
    """The labelled texts or pictures that a log of requests holds.

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
                    content = _content(row, recipe)
                    if content is None:
                        continue
                    if "label" not in row:
                        unlabelled += 1
                        continue
                    label = label_names.index(row["label"], recipe.data.labels)
                    found.append(_item(content, label, check))
                except (ValueError, InputError, DataError) as error:
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


def _content(row: dict[str, Any], recipe: Recipe) -> str | bytes | None:
    """What was asked of this model; None if the line does not tell."""
    if row.get("model") != recipe.name:
        return None
    if recipe.task == "image-classification":
        encoded = row.get("input_base64")
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    text = row.get("input")
    return text if isinstance(text, str) and text.strip() else None


def _item(content: str | bytes, label: int, check: Callable[[str], None] | None) -> Item:
    if isinstance(content, bytes):
        images.measure(content, "input_base64")
        return items.of_picture(content, label)
    if check is not None:
        check(content)
    return items.of_text(content, label)
