"""Token ids → batches padded to a fixed set of lengths.

    shuffle ─► bucket by length ─► pad to the bucket ─► prefetch

A batch holds texts of like length, so little of the step is spent on padding, and every batch has
one of few shapes.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
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
        bucket may be smaller.
    """
    buckets = preprocessor.spec.buckets
    ragged = tf.RaggedTensor.from_row_lengths(
        np.concatenate(data.ids), [len(row) for row in data.ids], validate=False
    )
    places = np.arange(len(data), dtype=np.int32)
    dataset = tf.data.Dataset.from_tensor_slices((ragged, data.labels, places))
    dataset = dataset.map(lambda ids, *rest: (tf.convert_to_tensor(ids), *rest))
    order = np.random.default_rng([seed, epoch]).integers(2**31)
    dataset = dataset.shuffle(len(data), seed=int(order), reshuffle_each_iteration=False)
    if served_by is not None:
        dataset = service.distribute(dataset, served_by, f"{uuid.uuid4()}-{epoch}")
    dataset = dataset.bucket_by_sequence_length(
        lambda ids, *_: tf.shape(ids)[0],
        bucket_boundaries=[length + 1 for length in buckets[:-1]],
        bucket_batch_sizes=[batch_size] * len(buckets),
        padded_shapes=([None], [], []),
        padding_values=(np.int32(-1), None, None),
    )
    lengths = tf.constant(buckets, tf.int32)
    pad_id = preprocessor.spec.pad_id
    dataset = dataset.map(
        lambda ids, y, at: _pad(ids, lengths, pad_id) | {"labels": y, "places": at}
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


def _pad(ids: Any, lengths: Any, pad_id: int) -> dict[str, Any]:
    """The in-graph twin of `TextPreprocessor.pad`; a test holds the two together."""
    longest = tf.shape(ids)[1]
    length = tf.reduce_min(tf.boolean_mask(lengths, lengths >= longest))
    ids = tf.pad(ids, [[0, 0], [0, length - longest]], constant_values=-1)
    return {
        "input_ids": tf.where(ids >= 0, ids, pad_id),
        "attention_mask": tf.cast(ids >= 0, tf.int32),
    }
