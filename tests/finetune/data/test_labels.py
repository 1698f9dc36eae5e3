"""Laws of labels: a name or its index, nothing else, and the fix in every refusal."""

from __future__ import annotations

from typing import Any

import pytest

from finetune.data import labels
from finetune.errors import DataError

NAMES = ("negative", "positive")


@pytest.mark.parametrize(("label", "index"), [("negative", 0), ("positive", 1), (0, 0), (1, 1)])
def test_a_label_is_a_name_or_its_index(label: Any, index: int) -> None:
    assert labels.index(label, NAMES) == index


@pytest.mark.parametrize("label", ["neutral", "0", "", 2, -1, True, 1.0, None, ["positive"]])
def test_anything_else_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match=r"`label` is .*\['negative', 'positive'\]"):
        labels.index(label, NAMES)


def test_digits_are_an_index_unless_they_are_a_name() -> None:
    assert labels.parsed("7", NAMES) == 7
    assert labels.parsed("7", ("7", "8")) == "7"
    assert labels.parsed("positive", NAMES) == "positive"
    assert labels.parsed("٧", NAMES) == "٧"
    assert labels.parsed("-1", NAMES) == "-1"


def test_many_labels_are_not_all_told() -> None:
    names = [str(number) for number in range(500)]
    assert labels.shown(names).endswith("'9'] and 490 more")


def test_names_come_sorted_and_indices_become_their_digits() -> None:
    assert labels.names(["b", "a", "b"], "x") == ("a", "b")
    assert labels.names([2, 0], "x") == ("0", "1", "2")
    assert labels.names(["a", 7], "x") == ("a",)


@pytest.mark.parametrize("found", [[], [-1], [labels.MOST]])
def test_no_names_can_be_made_of_nothing(found: list[str | int]) -> None:
    with pytest.raises(DataError, match="x: no label can be taken from it"):
        labels.names(found, "x")


def test_translation_goes_by_name() -> None:
    assert labels.translation(("positive", "negative"), NAMES, "x") == [1, 0]
    with pytest.raises(DataError, match=r"x: has the label 'bad'.*correct the recipe"):
        labels.translation(("positive", "bad"), NAMES, "x")
