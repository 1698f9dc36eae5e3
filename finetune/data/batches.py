"""Token ids → batches padded to a fixed set of lengths.

    shuffle ─► bucket by length ─► pad to the bucket ─► prefetch

A batch holds texts of like length, so little of the step is spent on padding, and every batch has
one of few shapes.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.preprocess import Ids, TextPreprocessor
from finetune.data import service


@dataclass(frozen=True)
class Encoded:
    """Examples as token ids: N rows of at most the last bucket's length, N labels."""

    ids: list[Ids]
    labels: NDArray[np.int32]  # [N]
    texts: tuple[str, ...] = ()  # [N], where they are of use
    segments: Sequence[
        Ids
    ] = ()  # [N], as `ids`: of packed texts, which one each token is of, from 1
    counted: Sequence[Ids] = ()  # [N], as `ids`: 1 for what a language model is to predict, else 0

    def __len__(self) -> int:
        return len(self.ids)


def encode(preprocessor: TextPreprocessor, texts: Sequence[str], labels: Sequence[int]) -> Encoded:
    """Token ids of every text, through the bundle's one preprocessing."""
    return Encoded(preprocessor.encode(texts), np.asarray(labels, np.int32), tuple(texts))


def training(
    data: Encoded,
    preprocessor: TextPreprocessor,
    batch_size: int,
    seed: int,
    *,
    epoch: int = 0,
    multiple: int = 1,
    served_by: str | None = None,
) -> Any:
    """A tf.data.Dataset of one epoch, in an order that seed and epoch decide.

    Args:
        multiple: what each batch's size must be a multiple of; `batch_size` is one. Rows of
            weight 0 fill the last batch of a bucket, and only that one.
        served_by: address of a tf.data service that hands out the examples, in any order; each
            comes once, so the batches are as many and as large as without.

    Yields:
        `{"input_ids", "attention_mask", "labels", "places", "weights"}`, int32 [B, T], [B, T],
        [B] and [B], and float32 [B]; every example once with weight 1, so the last batch of a
        bucket may be smaller. Where `data` has them, the mask holds the numbers of segments, and
        there is `counted`, int32 [B, T].
    """
    buckets = preprocessor.spec.buckets
    lengths = [len(row) for row in data.ids]
    columns = {
        name: tf.RaggedTensor.from_row_lengths(np.concatenate(rows), lengths, validate=False)
        for name, rows in _columns(data).items()
    }
    places = np.arange(len(data), dtype=np.int32)
    dataset = tf.data.Dataset.from_tensor_slices((columns, data.labels, places))
    dataset = dataset.map(
        lambda row, *rest: ({name: tf.convert_to_tensor(row[name]) for name in row}, *rest)
    )
    order = np.random.default_rng([seed, epoch]).integers(2**31)
    dataset = dataset.shuffle(len(data), seed=int(order), reshuffle_each_iteration=False)
    if served_by is not None:
        dataset = service.distribute(dataset, served_by, f"{uuid.uuid4()}-{epoch}")
    pads = _pads(columns, preprocessor)
    dataset = dataset.bucket_by_sequence_length(
        lambda row, *_: tf.shape(row["input_ids"])[0],
        bucket_boundaries=[length + 1 for length in buckets[:-1]],
        bucket_batch_sizes=[batch_size] * len(buckets),
        padded_shapes=({name: [None] for name in columns}, [], []),
        padding_values=(pads, None, None),
    )
    bounds = tf.constant(buckets, tf.int32)
    dataset = dataset.map(
        lambda rows, y, at: _widen(rows, bounds, pads) | {"labels": y, "places": at}
    )
    return dataset.map(lambda batch: fill(batch, multiple)).prefetch(2)


def steps_per_epoch(data: Encoded, preprocessor: TextPreprocessor, batch_size: int) -> int:
    """How many batches `training` yields."""
    counts = Counter(preprocessor.bucket(len(ids)) for ids in data.ids)
    return sum(math.ceil(count / batch_size) for count in counts.values())


def by_length(
    data: Encoded, preprocessor: TextPreprocessor, batch_size: int
) -> Iterator[list[int]]:
    """Every place once, in batches of one length bucket."""
    buckets: dict[int, list[int]] = {}
    for place, ids in enumerate(data.ids):
        buckets.setdefault(preprocessor.bucket(len(ids)), []).append(place)
    for places in buckets.values():
        for start in range(0, len(places), batch_size):
            yield places[start : start + batch_size]


def fill(batch: dict[str, Any], multiple: int) -> dict[str, Any]:
    """Gives a batch its `weights`: 1, and 0 for the copies of its first row that fill it up.

    Args:
        batch: tensors [B, …] by name.
        multiple: what the filled batch's size is a multiple of.
    """
    rows = tf.shape(batch["labels"])[0]
    places = tf.concat([tf.range(rows), tf.zeros([-rows % multiple], tf.int32)], axis=0)
    filled = {name: tf.gather(value, places) for name, value in batch.items()}
    return filled | {"weights": tf.cast(tf.range(tf.size(places)) < rows, tf.float32)}


def pad(
    data: Encoded, places: Sequence[int], preprocessor: TextPreprocessor
) -> dict[str, NDArray[np.int32]]:
    """Some of the examples, as `training` pads them: each [B, T]."""
    columns = {name: [rows[place] for place in places] for name, rows in _columns(data).items()}
    length = preprocessor.bucket(max(len(ids) for ids in columns["input_ids"]))
    pads = _pads(columns, preprocessor)
    return {
        name: np.stack(
            [np.pad(row, (0, length - len(row)), constant_values=pads[name]) for row in rows]
        )
        for name, rows in columns.items()
    }


def _columns(data: Encoded) -> dict[str, Sequence[Ids]]:
    """What there is of each token, by name."""
    marks = data.segments or [np.ones_like(ids) for ids in data.ids]
    columns = {"input_ids": data.ids, "attention_mask": marks}
    return columns | {"counted": data.counted} if data.counted else columns


def _pads(names: Iterable[str], preprocessor: TextPreprocessor) -> dict[str, np.int32]:
    pad_id = np.int32(preprocessor.spec.pad_id)
    return {name: pad_id if name == "input_ids" else np.int32(0) for name in names}


def _widen(rows: dict[str, Any], bounds: Any, pads: dict[str, np.int32]) -> dict[str, Any]:
    """Pads to the bucket; with the padding of a batch, the in-graph twin of `pad`."""
    longest = tf.shape(rows["input_ids"])[1]
    length = tf.reduce_min(tf.boolean_mask(bounds, bounds >= longest))
    return {
        name: tf.pad(row, [[0, 0], [0, length - longest]], constant_values=pads[name])
        for name, row in rows.items()
    }
