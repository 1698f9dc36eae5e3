"""A label as a data file writes it → its index in the recipe's list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from finetune.errors import DataError

MOST = 100_000  # labels of one data set
_DIGITS = re.compile(r"[0-9]{1,9}")


def index(label: Any, labels: Sequence[str]) -> int:
    """The index of a label, given as its name or as that index.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    if type(label) is int and 0 <= label < len(labels):
        return label
    raise ValueError(
        f"`label` is {label!r}, the recipe's labels are {shown(labels)}; "
        "correct the data or the recipe's data.labels"
    )


def parsed(written: str, labels: Sequence[str] = ()) -> str | int:
    """A label from a format without numbers: digits that are no name are an index."""
    return int(written) if written not in labels and _DIGITS.fullmatch(written) else written


def shown(labels: Sequence[str]) -> str:
    """The labels for a message, the first ten of them when they are many."""
    if len(labels) <= 10:
        return str(list(labels))
    return f"{list(labels[:10])} and {len(labels) - 10} more"


def translation(found: Sequence[str], labels: Sequence[str], origin: str) -> list[int]:
    """The recipe's index of each label that a data set lists.

    Raises:
        DataError: the recipe lacks one of them.
    """
    indices = {label: place for place, label in enumerate(labels)}
    for label in found:
        if label not in indices:
            raise DataError(
                f"{origin}: has the label {label!r}, the recipe's labels are {shown(labels)}; "
                "correct the recipe's data.labels"
            )
    return [indices[label] for label in found]


def names(found: Sequence[str | int], origin: str) -> tuple[str, ...]:
    """The names that a data set's labels make when no recipe lists them, sorted.

    Names are what they are; where all labels are indices, each index's digits become its name.

    Raises:
        DataError: there are none, or an index is too large.
    """
    strings = sorted({label for label in found if isinstance(label, str)})
    if strings:
        return tuple(strings)
    highest = max((label for label in found if not isinstance(label, str)), default=-1)
    if not 0 <= highest < MOST:
        raise DataError(
            f"{origin}: no label can be taken from it (highest index {highest}); "
            f"it needs names, or indices from 0 to {MOST - 1}"
        )
    return tuple(str(number) for number in range(highest + 1))
