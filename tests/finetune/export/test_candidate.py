"""Laws of golden inputs: test examples of every kind, never one that does not exist."""

from __future__ import annotations

import dataclasses

import pytest

from finetune.data.batches import Encoded
from finetune.export.candidate import Candidate


@pytest.mark.parametrize("count", [1, 2, 8, 96, 500])
def test_texts_are_of_the_test_split_with_the_shortest_and_longest(
    candidate: Candidate, count: int
) -> None:
    texts = [str(text) for text in candidate.golden_inputs(count)]
    assert len(texts) == min(count, 96)
    assert set(texts) <= set(candidate.data.test.texts)
    lengths = [len(ids) for ids in candidate.task.preprocessor.encode(texts)]
    assert lengths == sorted(lengths)
    assert lengths[0] == min(map(len, candidate.data.test.ids))
    if count > 1:
        assert lengths[-1] == max(map(len, candidate.data.test.ids))


def test_one_test_example_is_enough(candidate: Candidate) -> None:
    whole = candidate.data.test
    test = Encoded(whole.ids[:1], whole.labels[:1], whole.texts[:1])
    data = dataclasses.replace(candidate.data, test=test)
    assert dataclasses.replace(candidate, data=data).golden_inputs() == list(test.texts)
