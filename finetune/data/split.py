"""Splits that don't leak: no text in two of them, each label in the same share in all."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

Row = tuple[str, str]  # text, label


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts of a data set."""

    train: list[Row]
    dev: list[Row]
    test: list[Row]


def stratified(rows: Sequence[Row], seed: int, dev: float = 0.1, test: float = 0.1) -> Splits:
    """Splits (text, label) rows by label, the same way each time.

    Texts that differ only in case or white space count as one: the first is kept, and when their
    labels disagree none is, since no split could be right about it.

    Args:
        dev: share of each label's rows; `test` likewise; the rest is for training.
    """
    by_label: dict[str, list[Row]] = defaultdict(list)
    for text, label in _unique(rows):
        by_label[label].append((text, label))
    generator = random.Random(seed)  # noqa: S311 (no secret)
    parts = Splits([], [], [])
    for label in sorted(by_label):
        members = by_label[label]
        generator.shuffle(members)
        dev_end = round(len(members) * dev)
        test_end = dev_end + round(len(members) * test)
        parts.dev.extend(members[:dev_end])
        parts.test.extend(members[dev_end:test_end])
        parts.train.extend(members[test_end:])
    for part in (parts.train, parts.dev, parts.test):
        generator.shuffle(part)
    return parts


def normalized(text: str) -> str:
    """What two texts that count as one have in common."""
    return " ".join(text.casefold().split())


def _unique(rows: Sequence[Row]) -> list[Row]:
    labels: dict[str, set[str]] = defaultdict(set)
    first: dict[str, Row] = {}
    for text, label in rows:
        key = normalized(text)
        labels[key].add(label)
        first.setdefault(key, (text, label))
    return [row for key, row in first.items() if len(labels[key]) == 1]
