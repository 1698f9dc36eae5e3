"""Laws of evaluation: every example is asked once and answered in its place; n bounds the claim."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from finetune import evaluate
from finetune.data import batches
from finetune.progress import Silent


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_published_one(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Two-sided confidence intervals for the single proportion, table I."""
    assert evaluate.wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_lies_in_0_to_1(counts: tuple[int, int]) -> None:
    hits, n = counts
    low, high = evaluate.wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert low < high


def test_accuracy_is_the_share_of_rows_with_the_largest_logit_at_the_label() -> None:
    logits = np.asarray([[1, 0], [0, 1], [2, 3], [5, 4]], np.float32)
    metric = evaluate.accuracy(logits, np.asarray([0, 1, 0, 0], np.int32), "d" * 64)
    assert (metric.value, metric.n, metric.data_sha256) == (0.75, 4, "d" * 64)
    assert (metric.low, metric.high) == evaluate.wilson(3, 4)


class Echo:
    """A task whose logits tell which ids it was given, and how they were padded."""

    def __init__(self, preprocessor: TextPreprocessor) -> None:
        self.preprocessor = preprocessor
        self.shapes: list[tuple[int, ...]] = []

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        assert not training
        self.shapes.append(tuple(batch["input_ids"].shape))
        masked = batch["input_ids"] * batch["attention_mask"]
        return tf.stack([tf.reduce_sum(masked, 1), tf.reduce_sum(batch["attention_mask"], 1)], 1)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_keep_the_order_of_the_data_over_all_buckets(
    tokenizer_json: bytes, tiny_spec: TextPreprocess, batch_size: int
) -> None:
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    texts = [" ".join(["the", "film"][: n % 3] + ["good"] * n) for n in (9, 1, 20, 2, 12, 3, 8, 1)]
    data = batches.encode(preprocessor, texts, [0] * len(texts))
    task: Any = Echo(preprocessor)
    found = evaluate.predict(
        task, SimpleNamespace(), data, progress=Silent(), title="", batch_size=batch_size
    )
    assert found.tolist() == [[int(ids.sum()), len(ids)] for ids in data.ids]


def test_batches_hold_each_index_once_and_one_bucket_only(
    tokenizer_json: bytes, tiny_spec: TextPreprocess
) -> None:
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    data = batches.encode(preprocessor, [" ".join("a" * n) for n in range(1, 30)], [0] * 29)
    found = list(evaluate.by_length(data, preprocessor, 4))
    assert sorted(index for batch in found for index in batch) == list(range(29))
    for batch in found:
        assert len(batch) <= 4
        assert len({preprocessor.bucket(len(data.ids[index])) for index in batch}) == 1
