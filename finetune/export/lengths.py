"""Which of a recipe's lengths a device's file has: a few, since each takes memory of its own.

The CPU delegate packs every weight anew for each signature: of a small encoder, 11 MB.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from itertools import combinations

import msgspec

from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from finetune.export.candidate import Candidate

MOST = 3


def choose(buckets: Sequence[int], lengths: Sequence[int], most: int = MOST) -> tuple[int, ...]:
    """At most so many of the buckets, the last included: those that pad the texts least.

    Args:
        lengths: of texts, in tokens.
    """
    *others, last = buckets

    def padded(chosen: tuple[int, ...]) -> int:
        kept = (*chosen, last)
        return sum(next((each for each in kept if each >= length), last) for length in lengths)

    return (*min(combinations(others, min(most - 1, len(others))), key=padded), last)


def for_device(candidate: Candidate) -> Candidate:
    """The same model, whose texts are padded to the lengths of a device's file."""
    task, spec = candidate.task, candidate.task.preprocessor.spec
    if not isinstance(spec, TextPreprocess) or len(spec.buckets) <= MOST:
        return candidate
    chosen = choose(spec.buckets, [len(ids) for ids in candidate.data.train.ids])
    other = copy.copy(task)
    other.preprocessor = TextPreprocessor(  # type: ignore[misc]  # of a copy that is ours
        task.assets[spec.tokenizer], msgspec.structs.replace(spec, buckets=chosen)
    )
    return dataclasses.replace(candidate, task=other)
