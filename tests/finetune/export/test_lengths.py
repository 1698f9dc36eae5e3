"""Laws of the lengths: few, the last one kept, and those that pad the texts least."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from finetune.export import lengths
from finetune.export.candidate import Candidate

BUCKETS = st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(sorted)


@given(BUCKETS, st.lists(st.integers(1, 50), max_size=20), st.integers(1, 4))
def test_they_are_the_recipes_and_no_other_choice_pads_less(
    buckets: list[int], texts: list[int], most: int
) -> None:
    chosen = lengths.choose(buckets, texts, most)
    assert len(chosen) == min(most, len(buckets))
    assert chosen[-1] == buckets[-1]
    assert set(chosen) <= set(buckets)
    assert list(chosen) == sorted(chosen)

    def padded(kept: tuple[int, ...]) -> int:
        return sum(min((each for each in kept if each >= text), default=kept[-1]) for text in texts)

    others = combinations(buckets[:-1], len(chosen) - 1)
    assert padded(chosen) == min(padded((*each, buckets[-1])) for each in others)


def test_a_file_of_few_lengths_keeps_them(candidate: Candidate) -> None:
    assert lengths.for_device(candidate) is candidate
