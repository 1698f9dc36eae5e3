"""One door to every kind of data set.

*.jsonl         JSON lines                 text
*.csv, *.tsv    with a header              text
*.txt           one document               text without labels
a folder with index.json   TFRecord        text or images
any other folder           one per label   images
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from bundle import integrity
from finetune.data import delimited, image_folder, jsonl, shard_index, tfrecord
from finetune.data import labels as label_names
from finetune.data.images import Images
from finetune.data.jsonl import Examples
from finetune.errors import DataError

SourceKind = Literal["jsonl", "delimited", "text", "tfrecord", "image_folder"]


def kind_of(path: Path) -> SourceKind:
    """How a data set is stored.

    Raises:
        DataError: it is not there, or of no kind that can be read.
    """
    if path.is_dir():
        if (path / shard_index.FILE).is_file():
            return "tfrecord"
        if any(path.glob(f"*{shard_index.SUFFIX}")):
            raise DataError(f"{path}: holds shards without {shard_index.FILE}; convert once more")
        return "image_folder"
    if not path.exists():
        raise DataError(f"{path}: No such file or directory. Name a data set that exists.")
    if path.suffix.lower() == ".jsonl":
        return "jsonl"
    if path.suffix.lower() == ".txt":
        return "text"
    if path.suffix.lower() in delimited.DELIMITERS:
        return "delimited"
    raise DataError(
        f"{path}: no known kind of data; give a .jsonl, .csv or .tsv file, a folder of TFRecord "
        f"shards with {shard_index.FILE}, or a folder with one folder of pictures for each label"
    )


def holds_images(path: Path) -> bool:
    """Whether a data set holds images; else it holds text.

    Raises:
        DataError: see `kind_of`, or its index can't be read.
    """
    kind = kind_of(path)
    return kind == "image_folder" or (kind == "tfrecord" and shard_index.load(path).kind == "image")


def read_text(
    path: Path,
    labels: Sequence[str],
    check: Callable[[str], None] | None = None,
    *,
    text_column: str = "text",
    label_column: str = "label",
) -> Examples:
    """Reads and checks every text of a data set.

    Args:
        labels: the names a label may have, in the recipe's order.
        check: raises InputError for a text that the model can't take.
        text_column: of a CSV or TSV file; `label_column` likewise.

    Raises:
        DataError: names the file, the line or byte offset, and the reason.
    """
    match kind_of(path):
        case "jsonl":
            return jsonl.read(path, labels, check)
        case "delimited":
            return delimited.read(
                path, labels, check, text_column=text_column, label_column=label_column
            )
        case "tfrecord":
            return tfrecord.read_text(path, labels, check)
        case "image_folder":
            raise DataError(f"{path}: is a folder of pictures; name a data set of texts")
        case "text":
            raise DataError(f"{path}: is plain text; name a data set whose texts have labels")


def read_images(path: Path, labels: Sequence[str]) -> Images:
    """Finds and checks every picture of a data set.

    Raises:
        DataError: names the file, the byte offset where there is one, and the reason.
    """
    match kind_of(path):
        case "tfrecord":
            return tfrecord.read_images(path, labels)
        case "image_folder":
            return image_folder.read(path, labels)
        case _:
            raise DataError(
                f"{path}: holds texts; name a folder with one folder of pictures for each label, "
                "or a folder of TFRecord shards"
            )


def labels_of(
    path: Path, *, text_column: str = "text", label_column: str = "label"
) -> tuple[str, ...]:
    """The names of the labels that a data set has; sorted, or in its index's order.

    Raises:
        DataError: it can't be read, or has no labels.
    """
    match kind_of(path):
        case "tfrecord":
            return shard_index.load(path).labels
        case "image_folder":
            return image_folder.labels_of(path)
        case "jsonl":
            return label_names.names(_json_labels(path), str(path))
        case "delimited":
            rows = delimited.rows(path, text_column=text_column, label_column=label_column)
            return label_names.names([label_names.parsed(label) for *_, label in rows], str(path))
        case "text":
            raise DataError(f"{path}: is plain text; it has no labels")


def sha256(path: Path) -> str:
    """The SHA-256 of all that a data set holds, wherever it lies.

    Raises:
        DataError: it can't be read.
    """
    kind = kind_of(path)
    try:
        if kind == "tfrecord":  # the index holds each shard's
            return integrity.sha256_file(path / shard_index.FILE)
        if kind == "image_folder":
            return integrity.sha256_bytes(json.dumps(integrity.digest_folder(path)).encode())
        return integrity.sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Make it readable.") from error


def _json_labels(path: Path) -> list[str | int]:
    """The labels of the lines that have one; `jsonl.read` names the lines that do not."""
    labels: list[str | int] = []
    try:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                label = row.get("label") if isinstance(row, dict) else None
                if isinstance(label, str) or type(label) is int:
                    labels.append(label)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Name a file that exists.") from error
    return labels
