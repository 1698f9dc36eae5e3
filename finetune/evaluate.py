"""How good a classifier is, with the uncertainty of having seen only n examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.manifest import Metric
from bundle.preprocess import TextPreprocessor
from finetune.data.batches import Encoded
from finetune.progress import Progress
from finetune.tasks.base import Task


def predict(
    task: Task, model: Any, data: Encoded, *, progress: Progress, title: str, batch_size: int = 64
) -> NDArray[np.float32]:
    """Logits [N, C] of every example, in the data's order."""

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def forward(input_ids: Any, attention_mask: Any) -> Any:
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        return task.logits(model, batch, training=False)

    rows: dict[int, NDArray[np.float32]] = {}
    with progress.counted(title, len(data)) as advance:
        for indices in by_length(data, task.preprocessor, batch_size):
            tensors = task.preprocessor.pad([data.ids[index] for index in indices])
            logits = forward(tensors["input_ids"], tensors["attention_mask"]).numpy()
            rows.update(zip(indices, logits, strict=True))
            advance(len(indices))
    return np.stack([rows[index] for index in range(len(data))])


def by_length(
    data: Encoded, preprocessor: TextPreprocessor, batch_size: int
) -> Iterator[list[int]]:
    """Every index once, in batches of one length bucket."""
    buckets: dict[int, list[int]] = {}
    for index, ids in enumerate(data.ids):
        buckets.setdefault(preprocessor.bucket(len(ids)), []).append(index)
    for indices in buckets.values():
        for start in range(0, len(indices), batch_size):
            yield indices[start : start + batch_size]


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int32], data_sha256: str) -> Metric:
    """Share of rows of `logits` [N, C] whose largest is at `labels` [N], with its 95% interval."""
    hits = int((logits.argmax(-1) == labels).sum())
    low, high = wilson(hits, len(labels))
    return Metric(
        value=hits / len(labels), n=len(labels), data_sha256=data_sha256, low=low, high=high
    )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95% confidence interval of a share of `hits` in `n`.

    Source:
        Wilson (1927), the score interval; Brown, Cai, DasGupta: Interval Estimation for a
        Binomial Proportion (2001), section 3.1.1.
    """
    z = 1.959964
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
