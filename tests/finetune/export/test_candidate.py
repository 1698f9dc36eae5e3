"""Laws of golden texts: test sentences of every length, never one that does not exist."""

from __future__ import annotations

import dataclasses

import pytest

from finetune.data.batches import Encoded
from finetune.export.candidate import Candidate


@pytest.mark.parametrize("count", [1, 2, 8, 96, 500])
def test_texts_are_of_the_test_split_with_the_shortest_and_longest(
    candidate: Candidate, count: int
) -> None:
    texts = candidate.golden_texts(count)
    assert len(texts) == min(count, 96)
    assert set(texts) <= set(candidate.data.test_texts)
    lengths = [len(ids) for ids in candidate.task.preprocessor.encode(texts)]
    assert lengths == sorted(lengths)
    assert lengths[0] == min(map(len, candidate.data.test.ids))
    if count > 1:
        assert lengths[-1] == max(map(len, candidate.data.test.ids))


def test_one_test_example_is_enough(candidate: Candidate) -> None:
    test = Encoded(candidate.data.test.ids[:1], candidate.data.test.labels[:1])
    texts = candidate.data.test_texts[:1]
    data = dataclasses.replace(candidate.data, test=test, test_texts=texts)
    assert dataclasses.replace(candidate, data=data).golden_texts() == list(texts)
