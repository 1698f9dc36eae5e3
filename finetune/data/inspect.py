"""What a data set holds, and what is wrong with it: balance, sizes, copies, leaks, skew.

Two texts that differ only in case or white space count as one, as they do in `split`; two pictures
are one when their files are the same to the byte.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from finetune.data import shard_index, source, split
from finetune.data.images import Images
from finetune.data.jsonl import Examples
from finetune.errors import DataError

_BINS = 20
_SHOWN = 5  # examples of each fault
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How large the examples are."""

    unit: str
    edges: tuple[int, ...]  # len(counts) + 1; bin i holds edges[i] <= size < edges[i + 1]
    counts: tuple[int, ...]
    smallest: int
    median: int
    percentile_95: int
    largest: int


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Examples whose content an earlier one has too."""

    examples: int
    conflicting: int  # contents that occur with different labels
    shown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Skew:
    """How unlike one another the shards are."""

    shards: int
    bytes_ratio: float  # largest to smallest
    label_distance: float  # largest total variation between a shard's labels and all: 0 to 1


@dataclass(frozen=True, kw_only=True)
class Split:
    """One part of a data set."""

    path: str
    kind: str
    examples: int
    labels: Mapping[str, int]  # examples of each
    imbalance: float  # most frequent label to the rarest that occurs
    sizes: Histogram
    copies: Copies
    skew: Skew | None  # of TFRecord only


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Examples of one split whose content another has too."""

    first: str
    second: str
    examples: int  # of the second
    shown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All splits, and what passes between them."""

    splits: tuple[Split, ...]
    leaks: tuple[Leak, ...]


@dataclass(frozen=True, kw_only=True)
class _Part:
    path: Path
    content: Examples | Images
    keys: tuple[str, ...]  # equal for equal content

    def shown(self, places: Sequence[int]) -> tuple[str, ...]:
        return tuple(self._name(place) for place in places[:_SHOWN])

    def _name(self, place: int) -> str:
        if isinstance(self.content, Images):
            picture = self.content.pictures[place]
            return f"{picture.path}, byte {picture.offset}" if picture.offset else str(picture.path)
        return " ".join(self.content.texts[place].split())[:_SHOWN_CHARACTERS]


def inspect(
    paths: Sequence[Path],
    *,
    tokenizer: Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
) -> Report:
    """Reads and checks the splits of a data set and tells what they hold.

    Args:
        paths: one or several splits, all of texts or all of images.
        tokenizer: a `tokenizer.json`, to count tokens instead of characters.

    Raises:
        DataError: names what can't be read.
    """
    labels: dict[str, None] = {}
    for path in paths:
        found = source.labels_of(path, text_column=text_column, label_column=label_column)
        labels |= dict.fromkeys(found)
    parts = [_part(path, tuple(labels), text_column, label_column) for path in paths]
    if len({type(part.content) for part in parts}) > 1:
        raise DataError("the splits hold texts and images; give splits of one data set")
    counter = None if tokenizer is None else _tokenizer(tokenizer)
    return Report(
        splits=tuple(_split(part, tuple(labels), counter) for part in parts),
        leaks=tuple(_leak(first, second) for first, second in combinations(parts, 2)),
    )


def _part(path: Path, labels: Sequence[str], text_column: str, label_column: str) -> _Part:
    if source.holds_images(path):
        # A split may lack a label that another has.
        pictures = source.read_images(path, source.labels_of(path))
        place = [labels.index(label) for label in source.labels_of(path)]
        content = Images(pictures.pictures, tuple(place[label] for label in pictures.labels))
        return _Part(path=path, content=content, keys=tuple(p.sha256 for p in content.pictures))
    texts = source.read_text(path, labels, text_column=text_column, label_column=label_column)
    keys = tuple(split.normalized(text) for text in texts.texts)
    return _Part(path=path, content=texts, keys=keys)


def _split(part: _Part, labels: Sequence[str], tokenizer: Tokenizer | None) -> Split:
    counts = np.bincount(part.content.labels, minlength=len(labels))
    return Split(
        path=str(part.path),
        kind=source.kind_of(part.path),
        examples=len(part.content),
        labels={label: int(count) for label, count in zip(labels, counts, strict=True)},
        imbalance=round(float(counts.max() / counts[counts > 0].min()), 3),
        sizes=_sizes(part.content, tokenizer),
        copies=_copies(part),
        skew=_skew(part, len(labels)) if source.kind_of(part.path) == "tfrecord" else None,
    )


def _sizes(content: Examples | Images, tokenizer: Tokenizer | None) -> Histogram:
    if isinstance(content, Images):
        unit = "pixels of the longer side"
        sizes = [max(picture.height, picture.width) for picture in content.pictures]
    elif tokenizer is None:
        unit, sizes = "characters", [len(text) for text in content.texts]
    else:
        unit = "tokens"
        sizes = [len(row.ids) for row in tokenizer.encode_batch_fast(list(content.texts))]
    width = -(-(max(sizes) + 1 - min(sizes)) // _BINS)  # whole numbers, so that bins are alike
    bins = -(-(max(sizes) + 1 - min(sizes)) // width)
    edges = [min(sizes) + width * place for place in range(bins + 1)]
    return Histogram(
        unit=unit,
        edges=tuple(edges),
        counts=tuple(np.histogram(sizes, edges)[0].tolist()),
        smallest=min(sizes),
        median=int(np.median(sizes)),
        percentile_95=int(np.percentile(sizes, 95)),
        largest=max(sizes),
    )


def _copies(part: _Part) -> Copies:
    seen: dict[str, set[int]] = defaultdict(set)
    copies = []
    for place, (key, label) in enumerate(zip(part.keys, part.content.labels, strict=True)):
        if key in seen:
            copies.append(place)
        seen[key].add(label)
    return Copies(
        examples=len(copies),
        conflicting=sum(len(labels) > 1 for labels in seen.values()),
        shown=part.shown(copies),
    )


def _leak(first: _Part, second: _Part) -> Leak:
    known = set(first.keys)
    places = [place for place, key in enumerate(second.keys) if key in known]
    return Leak(
        first=str(first.path),
        second=str(second.path),
        examples=len(places),
        shown=second.shown(places),
    )


def _skew(part: _Part, labels: int) -> Skew:
    shards = shard_index.load(part.path).shards
    bounds = np.cumsum([0, *(shard.examples for shard in shards)])
    shares = np.bincount(part.content.labels, minlength=labels) / len(part.content)
    distances = [0.0]
    for start, stop in pairwise(bounds):
        of_shard = Counter(part.content.labels[start:stop])
        found = np.asarray([of_shard[label] for label in range(labels)]) / max(stop - start, 1)
        distances.append(float(np.abs(found - shares).sum() / 2))
    sizes = [shard.size_bytes for shard in shards]
    return Skew(
        shards=len(shards),
        bytes_ratio=round(max(sizes) / max(min(sizes), 1), 3),
        label_distance=round(max(distances), 3),
    )


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise DataError(f"{path}: not a tokenizers file: {error}") from error
