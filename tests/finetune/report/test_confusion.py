"""Laws of the confusion matrix: each cell that holds examples is drawn once, and says what."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np
import pytest

from finetune.metrics import classification
from finetune.metrics.classification import ClassificationResult
from finetune.report import confusion
from finetune.report.element import element


def measured(labels: int, n: int = 400) -> ClassificationResult:
    generator = np.random.default_rng(0)
    true = generator.integers(0, labels, n)
    logits = generator.normal(size=(n, labels)) + 2 * np.eye(labels)[true]
    return classification.measure(logits, true, [f"label {index}" for index in range(labels)])


def drawn(result: ClassificationResult) -> Element:
    return element("div", *confusion.draw(result))


@pytest.mark.parametrize("labels", [2, 12, 13, 77, 121, 500])
def test_each_cell_with_examples_is_drawn_once(labels: int) -> None:
    result = measured(labels)
    cells = [cell for cell in drawn(result).iter("rect") if cell.get("class") in ("hit", "miss")]
    assert len(cells) == np.count_nonzero(result.confusion)
    hits = sum(cell.get("class") == "hit" for cell in cells)
    assert hits == np.count_nonzero(result.confusion.diagonal())
    places = {(cell.get("x"), cell.get("y")) for cell in cells}
    assert len(places) == len(cells)


@pytest.mark.parametrize(("labels", "counted", "named"), [(2, True, True), (77, False, True)])
def test_few_labels_have_counts_and_many_have_names(
    labels: int, counted: bool, named: bool
) -> None:
    result = measured(labels)
    texts = [text.text for text in drawn(result).iter("text")]
    assert (f"{result.confusion[0, 0]:,}" in texts) == counted
    assert texts.count("label 1") == (2 if named else 0)


def test_a_thousand_labels_have_no_names_but_hints() -> None:
    root = drawn(measured(300))
    assert len(list(root.iter("text"))) == 1
    assert any(title.text and "taken for" in title.text for title in root.iter("title"))


def test_the_pairs_that_are_confused_most_come_first() -> None:
    true, answered = (
        np.asarray([0] * 5 + [1] * 4 + [2]),
        np.asarray([1] * 4 + [0] + [2] * 3 + [1, 2]),
    )
    result = classification.measure(np.eye(3)[answered], true, ["a", "b", "c"])
    rows = [["".join(cell.itertext()) for cell in row] for row in drawn(result).iter("tr")]
    assert rows[1:] == [["a", "b", "4", "80.0%"], ["b", "c", "3", "75.0%"]]


def test_a_long_name_is_cut_in_the_picture_and_whole_in_the_hint() -> None:
    names = ["x" * 50, "y"]
    result = classification.measure(np.eye(2), np.asarray([0, 1]), names)
    root = drawn(result)
    assert all(len(text.text or "") <= 22 for text in root.iter("text"))
    assert any(names[0] in (title.text or "") for title in root.iter("title"))
