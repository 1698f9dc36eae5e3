"""Laws of sharing: every example goes to one replica, and all take the same steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.preprocess import TextPreprocessor
from finetune.data import batches
from finetune.data.batches import Encoded
from finetune.distribution import Distribution, fold
from finetune.distribution.base import share

REPLICAS = (1, 2, 3, 4)


def parts(dataset: Any, replicas: int) -> list[list[dict[str, np.ndarray]]]:
    """What each replica is given, step by step."""
    return [
        [
            {name: tensor.numpy() for name, tensor in own.items()}
            for own in share(dataset, replicas, slice(place, place + 1))
        ]
        for place in range(replicas)
    ]


@settings(max_examples=20)
@given(st.lists(st.integers(3, 16), min_size=1, max_size=40), st.sampled_from(REPLICAS))
def test_each_example_goes_to_one_replica_and_all_take_the_same_steps(
    tokenizer_json: bytes, tiny_spec: Any, lengths: list[int], replicas: int
) -> None:
    """However few the examples are, and however uneven their lengths."""
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    ids = [np.full(length, 5, np.int32) for length in lengths]
    data = Encoded(ids, np.zeros(len(ids), np.int32))
    dataset = batches.training(data, preprocessor, 12, seed=0, multiple=replicas)
    found = parts(dataset, replicas)
    assert {len(steps) for steps in found} == {batches.steps_per_epoch(data, preprocessor, 12)}
    seen = [
        int(place)
        for steps in found
        for own in steps
        for place, weight in zip(own["places"], own["weights"], strict=True)
        if weight
    ]
    assert sorted(seen) == list(range(len(ids)))


def test_the_parts_of_a_step_are_its_batch_in_order() -> None:
    dataset = tf.data.Dataset.from_tensors({"x": tf.range(12)})
    found = parts(dataset, 3)
    assert [steps[0]["x"].tolist() for steps in found] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]


def test_folding_keeps_what_follows() -> None:
    assert fold(tf.zeros([6, 5, 2]), 3).shape == (3, 2, 5, 2)
    with pytest.raises(tf.errors.InvalidArgumentError):
        fold(tf.zeros([7, 2]), 3)


def test_one_device_sums_and_means_to_itself() -> None:
    alone = Distribution()
    assert alone.mean(0.25) == 0.25
    assert [float(each) for each in alone.sum([tf.constant(2.0)])] == [2.0]
    assert alone.local(3) == [3]
