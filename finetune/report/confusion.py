"""Labels against answers, as SVG: a row is what examples are, a column what they were taken for.

              answer
              cat dog
label   cat   ███  ░     the stronger, the larger the share of its row
        dog    ░  ██▓    empty cells are not drawn: there may be a million
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from finetune.metrics.classification import ClassificationResult, Indices
from finetune.report import tables
from finetune.report.element import element

_COUNTED = 12  # labels up to which a cell holds its count
_NAMED = 120  # labels up to which rows and columns have their names
_NAME = 22  # characters of a name
_CHARACTER = 6.2  # pixels, about
_SLANT = 0.71  # of a column's name, at 45°
_PAIRS = 15


def draw(result: ClassificationResult) -> list[Element]:
    """The matrix and, of more than two labels, the pairs that are confused most often."""
    names = [score.label for score in result.classes]
    parts = [element("div", _matrix(result.confusion, names), class_="scroll")]
    if len(names) > 2:
        parts += _pairs(result.confusion, names)
    return parts


def _matrix(confusion: Indices, names: Sequence[str]) -> Element:
    count = len(names)
    cell = 44 if count <= _COUNTED else 15 if count <= _NAMED else 4
    shown = [_short(name) for name in names] if count <= _NAMED else []
    longest = _CHARACTER * max(map(len, shown), default=0)
    left, top = longest + 26, longest * _SLANT + 30
    width, height = left + count * cell + longest * _SLANT + 8, top + count * cell + 4
    parts = [
        element("text", "label ↓ answer →", x=4, y=14, class_="faint"),
        element("rect", x=left, y=top, width=count * cell, height=count * cell, class_="board"),
        *_names(shown, cell, left, top),
        *_cells(confusion, names, cell, left, top),
    ]
    return element(
        "svg",
        element("title", "Confusion matrix"),
        *parts,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=round(width),
        height=round(height),
        role="img",
        aria_label=f"Confusion matrix of {count} labels",
        class_="matrix",
    )


def _names(shown: Sequence[str], cell: int, left: float, top: float) -> list[Element]:
    parts = []
    for place, name in enumerate(shown):
        middle = place * cell + cell / 2
        x, y = left + middle + 3, top - 6
        parts += [
            element("text", name, x=left - 6, y=top + middle + 4, text_anchor="end"),
            element("text", name, x=x, y=y, transform=f"rotate(-45 {x:.1f} {y:.1f})"),
        ]
    return parts


def _cells(
    confusion: Indices, names: Sequence[str], cell: int, left: float, top: float
) -> list[Element]:
    parts = []
    support = confusion.sum(1)
    for row, column in np.argwhere(confusion).tolist():
        count = int(confusion[row, column])
        share = count / int(support[row])
        x, y = left + column * cell, top + row * cell
        title = element("title", f"{names[row]} taken for {names[column]}: {count:,} ({share:.1%})")
        parts.append(
            element(
                "rect",
                title,
                x=x + 0.5,
                y=y + 0.5,
                width=cell - 1,
                height=cell - 1,
                fill_opacity=math.sqrt(share),  # a few wrong ones still show
                class_="hit" if row == column else "miss",
            )
        )
        if len(names) <= _COUNTED:
            parts.append(
                element(
                    "text",
                    f"{count:,}",
                    x=x + cell / 2,
                    y=y + cell / 2 + 4,
                    text_anchor="middle",
                    class_="over" if share > 0.3 else "count",
                )
            )
    return parts


def _pairs(confusion: Indices, names: Sequence[str]) -> list[Element]:
    wrong = confusion * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    rows = []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[row, column]):
            share = f"{count / confusion[row].sum():.1%}"
            rows.append((names[row], names[column], f"{count:,}", share))
    heads = ("label", "taken for", "examples", "of the label")
    return [element("h3", "Confused most often"), tables.table(heads, rows)] if rows else []


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
