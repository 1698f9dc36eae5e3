"""Laws of evaluation: every example is asked once, and answered in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from finetune import evaluate
from finetune.data import batches
from finetune.evaluate import Classified, Modelled
from finetune.progress import Silent


def test_the_score_of_a_classifier_is_its_accuracy() -> None:
    logits = np.asarray([[1, 0], [0, 1], [2, 3], [5, 4]], np.float32)
    result = Classified(logits, np.asarray([0, 1, 0, 0], np.int32), ("a", "b"))
    metric = result.metrics("d" * 64)["accuracy"]
    assert result.score == metric.value == 0.75
    assert (metric.n, metric.data_sha256) == (4, "d" * 64)
    assert result.is_finite
    assert not Classified(logits * np.nan, result.labels, result.names).is_finite


def test_the_score_of_a_language_model_is_its_log_likelihood() -> None:
    result = Modelled(np.asarray([2.0, 4.0]), np.asarray([1, 2]))
    assert result.score == pytest.approx(-2)
    assert result.metrics("d" * 64)["perplexity"].value == pytest.approx(np.exp(2))


class Echo:
    """A task whose logits tell which ids it was given, and how they were padded."""

    def __init__(self, preprocessor: TextPreprocessor) -> None:
        self.preprocessor = preprocessor
        self.shapes: list[tuple[int, ...]] = []

    def batches(self, split: Any, batch_size: int) -> Any:
        for places in batches.by_length(split, self.preprocessor, batch_size):
            yield places, self.preprocessor.pad([split.ids[place] for place in places])

    def answer(self, model: Any, batch: dict[str, Any]) -> Any:
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
        task, object(), data, progress=Silent(), title="", batch_size=batch_size
    )
    assert found.tolist() == [[int(ids.sum()), len(ids)] for ids in data.ids]


def test_batches_hold_each_index_once_and_one_bucket_only(
    tokenizer_json: bytes, tiny_spec: TextPreprocess
) -> None:
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    data = batches.encode(preprocessor, [" ".join("a" * n) for n in range(1, 30)], [0] * 29)
    found = list(batches.by_length(data, preprocessor, 4))
    assert sorted(index for batch in found for index in batch) == list(range(29))
    for batch in found:
        assert len(batch) <= 4
        assert len({preprocessor.bucket(len(data.ids[index])) for index in batch}) == 1
