"""Which worker takes which examples, so that all take the same number of steps.

    files    │▓▓▓▓▓▓▓▓▓▓│▓▓│▓▓▓▓▓▓│      few, and of unlike size
    workers  0▓▓▓▓▓▓1▓▓▓▓▓▓2▓▓▓▓▓▓       as many examples each, give or take one

By file, one worker would get ten examples and another two: the others would wait for it at every
epoch's end, or hang in a collective that it never joins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from finetune.errors import DataError


@dataclass(frozen=True)
class Range:
    """A stretch of a file: the examples `start` to `stop - 1`."""

    file: int  # its index
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def shard(counts: Sequence[int], workers: int) -> list[list[Range]]:
    """The stretches of each worker: every example once, sizes at most one apart.

    Args:
        counts: examples of each file.
        workers: how many share them.

    Raises:
        DataError: there is no worker, a count is negative, or a worker would have no example.
    """
    if workers < 1:
        raise DataError(f"workers: {workers} is too few; give at least 1")
    if min(counts, default=0) < 0:
        raise DataError(f"counts: {min(counts)} examples can't be in a file")
    total = sum(counts)
    if total < workers:
        raise DataError(
            f"workers: {workers} are more than the {total} examples; start fewer of them"
        )
    bounds = [total * worker // workers for worker in range(workers + 1)]
    return [_cut(counts, start, stop) for start, stop in pairwise(bounds)]


def steps(counts: Sequence[int], workers: int, batch_size: int) -> int:
    """Whole steps an epoch that every worker can take with `batch_size` examples of its own.

    Raises:
        DataError: see `shard`, or not even one step has examples for all.
    """
    fewest = min(sum(map(len, ranges)) for ranges in shard(counts, workers))
    if fewest < batch_size:
        raise DataError(
            f"batch_size: {batch_size} is more than the {fewest} examples of a worker; lower it"
        )
    return fewest // batch_size


def _cut(counts: Sequence[int], start: int, stop: int) -> list[Range]:
    ranges, first = [], 0
    for file, count in enumerate(counts):
        low, high = max(start - first, 0), min(stop - first, count)
        if low < high:
            ranges.append(Range(file, low, high))
        first += count
    return ranges
