"""Labelled texts as CSV or TSV with a header:

    text,label
    "a fine film, all in all",positive

A quoted field may hold line breaks; errors name the line on which its row begins.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bundle.errors import InputError
from finetune.data import labels as label_names
from finetune.data.jsonl import Examples
from finetune.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
_MOST_CHARACTERS = 1_000_000  # of a field: an open quote must not swallow a whole file


def read(
    path: Path,
    labels: Sequence[str],
    check: Callable[[str], None] | None = None,
    *,
    text_column: str = "text",
    label_column: str = "label",
) -> Examples:
    """Reads and checks every row of a file.

    Args:
        path: UTF-8, with a header; the suffix `.tsv` means tabs, any other commas.
        labels: the names a label may have; a label may also be the index of one.
        check: raises InputError for a text that the model can't take.

    Raises:
        DataError: names file, line and reason of the first row that can't be used.
    """
    texts: list[str] = []
    indices: list[int] = []
    for line, text, label in rows(path, text_column=text_column, label_column=label_column):
        try:
            _check_filled(text, text_column)
            indices.append(label_names.index(label_names.parsed(label, labels), labels))
            if check is not None:
                check(text)
        except (ValueError, InputError) as error:
            raise DataError(f"{path}, line {line}: {error}") from error
        texts.append(text)
    return Examples(tuple(texts), tuple(indices))


def rows(path: Path, *, text_column: str, label_column: str) -> Iterator[tuple[int, str, str]]:
    """Line number, text and label of every row, as the file has them.

    Raises:
        DataError: the file can't be read, has no rows, or isn't strictly delimited.
    """
    reader = csv.reader(
        io.StringIO(_decoded(path), newline=""),
        delimiter=DELIMITERS.get(path.suffix.lower(), ","),
        strict=True,
    )
    line, found = 1, False
    try:
        header = _next(reader) or []
        text_place, label_place = (_place(header, name) for name in (text_column, label_column))
        line = reader.line_num + 1
        while (row := _next(reader)) is not None:
            _check_count(row, header)
            yield line, row[text_place], row[label_place]
            line, found = reader.line_num + 1, True
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}, line {line}: {error}") from error
    if not found:
        raise DataError(f"{path}: has no rows; it needs at least one below its header")


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}. Name a file that exists.") from error
    if not content:
        raise DataError(f"{path}: is empty; it needs a header and at least one row")
    try:
        return content.decode("utf-8").removeprefix("\ufeff")  # spreadsheets begin with a mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        start = content.rfind(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 at byte {error.start - start}; save it as UTF-8"
        ) from error


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    before = csv.field_size_limit(_MOST_CHARACTERS)  # the module has one limit for all readers
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def _place(header: Sequence[str], column: str) -> int:
    if header.count(column) != 1:
        problem = "no column" if column not in header else "more than one column"
        raise ValueError(
            f"{problem} {column!r} in the header {label_names.shown(header)}; "
            "name the columns of text and label"
        )
    return header.index(column)


def _check_count(row: Sequence[str], header: Sequence[str]) -> None:
    if not row:
        raise ValueError("is blank; delete it")
    if len(row) != len(header):
        fix = "quote fields that hold the delimiter" if len(row) > len(header) else "fill the row"
        raise ValueError(f"has {len(row)} fields, the header {len(header)}; {fix}")


def _check_filled(text: str, column: str) -> None:
    if not text.strip():
        raise ValueError(f"`{column}` must be a non-empty string, not {text!r}")
