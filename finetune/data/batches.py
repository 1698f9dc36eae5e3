"""Token ids → batches padded to a fixed set of lengths.

    shuffle ─► bucket by length ─► pad to the bucket ─► prefetch

A batch holds texts of like length, so little of the step is spent on padding, and every batch has
one of few shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.preprocess import Ids, TextPreprocessor


@dataclass(frozen=True)
class Encoded:
    """Examples as token ids: N rows of at most the last bucket's length, N labels."""

    ids: list[Ids]
    labels: NDArray[np.int32]  # [N]

    def __len__(self) -> int:
        return len(self.ids)


def encode(preprocessor: TextPreprocessor, texts: Sequence[str], labels: Sequence[int]) -> Encoded:
    """Token ids of every text, through the bundle's one preprocessing."""
    return Encoded(preprocessor.encode(texts), np.asarray(labels, np.int32))


def training(data: Encoded, preprocessor: TextPreprocessor, batch_size: int, seed: int) -> Any:
    """A tf.data.Dataset of one epoch; every iteration over it is a new order.

    Yields:
        `{"input_ids", "attention_mask", "labels"}`, int32 [B, T], [B, T] and [B]; every example
        once an epoch, so the last batch of a bucket may be smaller.
    """
    buckets = preprocessor.spec.buckets
    ragged = tf.RaggedTensor.from_row_lengths(
        np.concatenate(data.ids), [len(row) for row in data.ids], validate=False
    )
    dataset = tf.data.Dataset.from_tensor_slices((ragged, data.labels))
    dataset = dataset.map(lambda ids, label: (tf.convert_to_tensor(ids), label))
    dataset = dataset.shuffle(len(data), seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.bucket_by_sequence_length(
        lambda ids, _: tf.shape(ids)[0],
        bucket_boundaries=[length + 1 for length in buckets[:-1]],
        bucket_batch_sizes=[batch_size] * len(buckets),
        padded_shapes=([None], []),
        padding_values=(np.int32(-1), None),
    )
    lengths = tf.constant(buckets, tf.int32)
    pad_id = preprocessor.spec.pad_id
    return dataset.map(lambda ids, y: _pad(ids, y, lengths, pad_id)).prefetch(2)


def _pad(ids: Any, labels: Any, lengths: Any, pad_id: int) -> dict[str, Any]:
    """The in-graph twin of `TextPreprocessor.pad`; a test holds the two together."""
    longest = tf.shape(ids)[1]
    length = tf.reduce_min(tf.boolean_mask(lengths, lengths >= longest))
    ids = tf.pad(ids, [[0, 0], [0, length - longest]], constant_values=-1)
    mask = tf.cast(ids >= 0, tf.int32)
    return {
        "input_ids": tf.where(ids >= 0, ids, pad_id),
        "attention_mask": mask,
        "labels": labels,
    }
