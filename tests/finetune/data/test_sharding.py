"""Laws of static shards: every example once, sizes at most one apart, as many steps for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import sharding
from finetune.data.sharding import Range
from finetune.errors import DataError

counts = st.lists(st.integers(0, 200), min_size=1, max_size=10)


@given(counts, st.integers(1, 12))
def test_every_example_once_and_sizes_at_most_one_apart(counts: list[int], workers: int) -> None:
    if sum(counts) < workers:
        return
    shards = sharding.shard(counts, workers)
    taken = [
        (r.file, example) for ranges in shards for r in ranges for example in range(r.start, r.stop)
    ]
    assert taken == [
        (file, example) for file, count in enumerate(counts) for example in range(count)
    ]
    sizes = [sum(len(r) for r in ranges) for ranges in shards]
    assert len(sizes) == workers
    assert max(sizes) - min(sizes) <= 1
    assert all(len(r) > 0 for ranges in shards for r in ranges)


def test_few_and_unlike_files() -> None:
    assert sharding.shard([10, 2, 6], 3) == [
        [Range(0, 0, 6)],
        [Range(0, 6, 10), Range(1, 0, 2)],
        [Range(2, 0, 6)],
    ]


@given(counts, st.integers(1, 12), st.integers(1, 20))
def test_every_worker_can_take_every_step(counts: list[int], workers: int, batch_size: int) -> None:
    if sum(counts) // workers < batch_size:
        return
    steps = sharding.steps(counts, workers, batch_size)
    fewest = min(sum(len(r) for r in ranges) for ranges in sharding.shard(counts, workers))
    assert steps * batch_size <= fewest < (steps + 1) * batch_size


@pytest.mark.parametrize(
    ("counts", "workers", "reason"),
    [
        ([1], 0, "workers: 0 is too few; give at least 1"),
        ([1, 1], 3, "workers: 3 are more than the 2 examples"),
        ([], 1, "workers: 1 are more than the 0 examples"),
        ([5, -1], 1, "counts: -1 examples can't be"),
    ],
)
def test_what_cant_be_shared_is_named(counts: list[int], workers: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        sharding.shard(counts, workers)


def test_a_batch_larger_than_a_share_is_named() -> None:
    with pytest.raises(DataError, match="batch_size: 4 is more than the 3 examples of a worker"):
        sharding.steps([7], 2, 4)
