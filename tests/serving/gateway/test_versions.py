"""Laws of choosing a version: weights are kept, keys stick, what can't be asked isn't chosen."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ConfigError, UnknownModel
from serving.gateway.versions import Choice

KEYS = [f"user-{number}" for number in range(2000)]


@given(st.sets(st.integers(1, 9)), st.integers(1, 9), st.text(max_size=5))
@settings(max_examples=50)
def test_without_a_choice_the_wanted_one_is_taken_or_else_the_newest(
    usable: set[int], wanted: int, key: str
) -> None:
    expected = wanted if wanted in usable else max(usable, default=0)
    assert Choice().choose(usable, wanted, key) == expected


def test_a_number_or_a_label_is_taken_while_it_can_be_asked() -> None:
    for choice in (Choice(version=3), Choice(label="stable", labels={"stable": 3})):
        assert choice.choose({3, 4}, 4, "") == 3
        assert choice.choose({2, 4}, 4, "") == 4


def test_a_split_keeps_its_weights() -> None:
    choice = Choice(split={7: 95, 8: 5})
    for keys in (KEYS, [""] * 2000):
        counted = Counter(choice.choose({7, 8}, 8, key) for key in keys)
        assert set(counted) == {7, 8}
        assert 50 < counted[8] < 160


def test_a_key_keeps_its_version_and_who_has_the_new_one_keeps_it_as_its_share_grows() -> None:
    had: set[str] = set()
    for share in (5, 10, 50, 100):
        choice = Choice(split={7: 100 - share, 8: share})
        has = {key for key in KEYS if choice.choose({7, 8}, 8, key) == 8}
        assert has == {key for key in KEYS if choice.choose({7, 8}, 8, key) == 8}
        assert had <= has
        had = has
    assert had == set(KEYS)


def test_a_part_that_can_not_be_asked_leaves_its_share_to_the_others() -> None:
    choice = Choice(split={7: 95, 8: 5})
    assert {choice.choose({7}, 8, key) for key in KEYS[:50]} == {7}
    assert {choice.choose({8}, 8, key) for key in KEYS[:50]} == {8}
    assert choice.choose({3}, 9, "") == 3
    assert choice.choose(set(), 9, "") == 0


def test_no_weight_no_call() -> None:
    choice = Choice(split={7: 1, 8: 0})
    assert {choice.choose({7, 8}, 8, key) for key in KEYS} == {7}


def test_a_label_of_a_caller_is_looked_up() -> None:
    choice = Choice(labels={"stable": 4, "next": 5})
    assert choice.labelled("next") == 5
    with pytest.raises(UnknownModel, match="version_label: 'old' is unknown; there are: stable"):
        choice.labelled("old")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": 1, "split": {1: 1}}, "has version and split; give one of them"),
        ({"label": "x"}, "label 'x' is not among labels: none"),
        ({"split": {1: -1}}, "split gives 1 -1; give 0 or more"),
        ({"split": {1: float("nan")}}, "split gives 1 nan"),
        ({"split": {1: 0}}, "split gives every version 0"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Choice(**settings)
