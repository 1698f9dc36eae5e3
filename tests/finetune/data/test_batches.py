"""Laws of batching: every example once an epoch, in few shapes, padded as the bundle pads."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from bundle.manifest import TextPreprocess
from bundle.preprocess import Ids, TextPreprocessor
from finetune.data import batches
from finetune.data.batches import Encoded

BATCH = 4
PAD = 9


@pytest.fixture(scope="module")
def preprocessor(tokenizer_json: bytes) -> TextPreprocessor:
    spec = TextPreprocess(buckets=(4, 8, 12), pad_id=PAD, max_characters=100)
    return TextPreprocessor(tokenizer_json, spec)


@pytest.fixture(scope="module")
def data(preprocessor: TextPreprocessor) -> Encoded:
    """61 distinct examples of 3 to 12 tokens; one of them holds the padding id and id 0."""
    generator = np.random.default_rng(0)
    ids: list[Ids] = [
        generator.integers(0, 23, size=generator.integers(3, 13)).astype(np.int32)
        for _ in range(60)
    ]
    ids.append(np.asarray([2, PAD, 0, PAD, 3], np.int32))
    return Encoded(ids, np.arange(len(ids), dtype=np.int32))


def epoch(dataset: Any) -> list[dict[str, np.ndarray]]:
    return [{key: value.numpy() for key, value in batch.items()} for batch in dataset]


def labels(found: list[dict[str, np.ndarray]]) -> list[int]:
    return [int(label) for batch in found for label in batch["labels"]]


def test_every_example_appears_exactly_once_an_epoch(
    preprocessor: TextPreprocessor, data: Encoded
) -> None:
    for number in range(2):
        dataset = batches.training(data, preprocessor, BATCH, seed=0, epoch=number)
        assert sorted(labels(epoch(dataset))) == list(range(len(data)))


def test_padding_in_the_graph_equals_the_bundles(
    preprocessor: TextPreprocessor, data: Encoded
) -> None:
    for batch in epoch(batches.training(data, preprocessor, BATCH, seed=0)):
        expected = preprocessor.pad([data.ids[label] for label in batch["labels"]])
        for name in ("input_ids", "attention_mask"):
            assert batch[name].dtype == np.int32
            np.testing.assert_array_equal(batch[name], expected[name])


def test_each_bucket_fills_its_batches(preprocessor: TextPreprocessor, data: Encoded) -> None:
    """Only the last batch of a bucket may be smaller: few shapes, few compilations."""
    found = epoch(batches.training(data, preprocessor, BATCH, seed=0))
    sizes: dict[int, list[int]] = {}
    for batch in found:
        sizes.setdefault(batch["input_ids"].shape[1], []).append(len(batch["labels"]))
    counts = Counter(preprocessor.bucket(len(ids)) for ids in data.ids)
    assert sizes.keys() == counts.keys() == {4, 8, 12}
    for bucket, seen in sizes.items():
        full, rest = divmod(counts[bucket], BATCH)
        assert sorted(seen, reverse=True) == [BATCH] * full + [rest] * bool(rest)


def test_each_epoch_has_a_new_order(preprocessor: TextPreprocessor, data: Encoded) -> None:
    first, again, second = (
        batches.training(data, preprocessor, BATCH, seed=0, epoch=number) for number in (0, 0, 1)
    )
    assert labels(epoch(first)) == labels(epoch(first)) == labels(epoch(again))
    assert labels(epoch(first)) != labels(epoch(second))


@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_rows_that_only_fill_weigh_nothing(
    preprocessor: TextPreprocessor, data: Encoded, multiple: int
) -> None:
    seen: list[int] = []
    found = epoch(batches.training(data, preprocessor, BATCH, seed=0, multiple=multiple))
    for batch in found:
        assert len(batch["labels"]) % multiple == 0
        assert set(batch["weights"]) <= {0.0, 1.0}
        seen += batch["labels"][batch["weights"] == 1].tolist()
    assert sorted(seen) == list(range(len(data)))
    assert len(found) == batches.steps_per_epoch(data, preprocessor, BATCH)


def test_the_seed_decides_the_order(preprocessor: TextPreprocessor, data: Encoded) -> None:
    first, again, other = (
        [labels(epoch(dataset)) for dataset in [made] * 2]
        for made in (batches.training(data, preprocessor, BATCH, seed) for seed in (0, 0, 1))
    )
    assert first == again != other


def test_one_example_and_one_bucket_are_enough(preprocessor: TextPreprocessor) -> None:
    data = batches.encode(preprocessor, ["a good film"], [1])
    (batch,) = epoch(batches.training(data, preprocessor, BATCH, seed=0))
    assert batch["input_ids"].shape == (1, 8)
    assert batch["labels"].tolist() == [1]


def test_encoding_is_the_bundles(preprocessor: TextPreprocessor) -> None:
    texts = ["a good film", "dull"]
    data = batches.encode(preprocessor, texts, [1, 0])
    assert [ids.tolist() for ids in data.ids] == [
        ids.tolist() for ids in preprocessor.encode(texts)
    ]
    assert data.labels.tolist() == [1, 0]
    assert len(data) == 2
