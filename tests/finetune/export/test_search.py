"""Laws of the search: cheap steps first, judged on dev alone, logged, and refused as a whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from finetune.errors import GateRefused
from finetune.export import flatbuffer, retraining, search
from finetune.export.candidate import Candidate
from finetune.export.search import Found
from finetune.progress import Silent


def limited(candidate: Candidate, profile: str, **limits: float) -> Candidate:
    edge = candidate.recipe.edge
    own = getattr(edge, profile).model_copy(update=limits)
    recipe = candidate.recipe.model_copy(update={"edge": edge.model_copy(update={profile: own})})
    return dataclasses.replace(candidate, recipe=recipe)


def test_the_first_step_that_keeps_is_taken(candidate: Candidate) -> None:
    found = search.search(
        limited(candidate, "full_int8", max_drop=1.0, min_agreement=0.0), "full_int8", Silent()
    )
    (attempt,) = found.attempts
    assert (attempt.step, attempt.passed, found.islands) == ("plain", True, ())
    assert found.calibration is not None
    assert found.calibration.split == "train"


def test_strict_is_whole_and_mixed_names_its_islands(searched: dict[str, Found]) -> None:
    whole, mixed = searched["full_int8"], searched["mixed_int8"]
    flatbuffer.check_profile(flatbuffer.inspect(whole.model), "full_int8")
    content = flatbuffer.inspect(mixed.model)
    flatbuffer.check_profile(content, "mixed_int8")
    assert whole.islands == ()
    assert content.float_ops.keys() <= set(mixed.islands)
    for found in searched.values():
        assert [attempt.passed for attempt in found.attempts].count(True) == 1


def test_islands_begin_with_the_kind_of_op_that_costs_most(searched: dict[str, Found]) -> None:
    attempts = searched["mixed_int8"].attempts
    first = [each for each in attempts if ", float " in each.step and " and " not in each.step]
    assert {each.step.rpartition(" ")[2] for each in first} == set(search.ISLANDS)
    best = min(first, key=lambda each: each.error)
    (taken,) = (each for each in attempts if each.passed)
    assert taken.step.startswith(best.step)


def test_the_test_split_is_not_looked_at(candidate: Candidate, searched: dict[str, Found]) -> None:
    """And the same model and data give the same search."""
    blind = dataclasses.replace(candidate.data, test=_Untouchable(candidate.data.test))
    again = search.search(dataclasses.replace(candidate, data=blind), "full_int8", Silent())
    assert again.attempts == searched["full_int8"].attempts
    assert again.model == searched["full_int8"].model


class _Untouchable:
    """A split whose texts may be compared with, but whose examples may not be asked."""

    def __init__(self, split: Any) -> None:
        self.texts = split.texts

    def __len__(self) -> int:
        return len(self.texts)


@pytest.mark.parametrize("profile", ["full_int8", "mixed_int8"])
def test_when_no_step_keeps_all_are_told(
    candidate: Candidate, profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "_EXAMPLES", 16)
    monkeypatch.setattr(search, "_TIMES", (4.0, 2.0))
    strict = limited(candidate, profile, max_drop=0.0, min_agreement=1.1)
    with pytest.raises(GateRefused) as refused:
        search.search(strict, profile, Silent())
    first, *rows = str(refused.value).splitlines()
    assert first.startswith(f"tiny {profile}: refused: on the dev split no step keeps max_drop 0.0")
    steps = [row.split("  ")[-1] for row in rows[1:]]
    assert steps[:3] == ["plain", "clipped, times 4", "clipped, times 2"]
    if profile == "full_int8":
        assert [step.split(", times")[0] for step in steps[3:]] == [
            "migrated, clipped",
            "retrained, clipped",
        ]
    else:
        assert all(", float " in step for step in steps[3:])
