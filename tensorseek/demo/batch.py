"""A CSV file of texts → the same rows with the cloud's and the edge's answers."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tensorseek.demo.answers import Answer
from tensorseek.demo.context import Context
from tensorseek.errors import TensorseekError

MOST_BYTES = 5 << 20
MOST_ROWS = 10_000
_ADDED = ("cloud", "cloud_score", "edge", "edge_score", "agree", "problem")

Told = Callable[[float, str], None]  # share done, and how it stands


class BatchError(TensorseekError):
    """The file can't be used; says why."""


@dataclass(frozen=True)
class Result:
    """The file to download, and what it holds in short."""

    path: Path
    summary: str


def classify(context: Context, model: str, path: Path, told: Told) -> Result:
    """Asks both sides about every row.

    Raises:
        BatchError: the file is too large, not UTF-8, no CSV, or has no column `text`.
    """
    heads, rows = _read(path)
    texts = [row["text"] for row in rows]
    answered: list[tuple[dict[str, str], Answer, Answer]] = []
    for row, cloud in zip(rows, context.cloud.answers(model, texts), strict=True):
        answered.append((row, cloud, context.edge.answer(model, row["text"])))
        told(len(answered) / len(rows), f"{len(answered)} of {len(rows)}")
    both = [(cloud.best, edge.best) for _, cloud, edge in answered if cloud.best and edge.best]
    agree = sum(cloud == edge for cloud, edge in both)
    failed = sum(cloud.best is None for _, cloud, _ in answered)
    summary = f"{len(rows)} rows: {len(rows) - failed} answered by the cloud"
    summary += f", {agree} of {len(both)} alike on the edge." if both else "."
    return Result(_write(path.stem, heads, answered), summary)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if path.stat().st_size > MOST_BYTES:
        raise BatchError(f"The file has {path.stat().st_size} bytes, the limit is {MOST_BYTES}.")
    try:
        content = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
        heads = list(reader.fieldnames or ())
        if "text" not in heads:
            raise BatchError(f"The file has no column `text`; its columns are {heads[:10]}.")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise BatchError(f"Line {reader.line_num} has not as many fields as the header.")
            rows.append(row)
            if len(rows) > MOST_ROWS:
                raise BatchError(f"The file has more than {MOST_ROWS} rows; split it.")
    except UnicodeDecodeError as error:
        raise BatchError(
            f"The file is not UTF-8 at byte {error.start}; save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise BatchError(f"The file is no CSV: {error}.") from error
    if not rows:
        raise BatchError("The file has no rows below its header.")
    return heads, rows


def _write(stem: str, heads: list[str], rows: list[tuple[dict[str, str], Answer, Answer]]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tensorseek-"))
    path = folder / f"{stem[:80]}-labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*heads, *_ADDED])
        for row, cloud, edge in rows:
            problem = " ".join(each.note for each in (cloud, edge) if each.best is None)
            writer.writerow(
                [
                    *(_harmless(row[head]) for head in heads),
                    *_told(cloud),
                    *_told(edge),
                    cloud.best == edge.best if cloud.best and edge.best else "",
                    problem,
                ]
            )
    return path


def _told(answer: Answer) -> tuple[str, str]:
    best = answer.best
    return (best, f"{answer.scores[best]:.4f}") if best else ("", "")


def _harmless(field: str) -> str:
    """A field that no spreadsheet takes for a formula.

    Source: OWASP, CSV injection.
    """
    return f"'{field}" if field[:1] in {"=", "+", "-", "@", "\t", "\r"} else field
