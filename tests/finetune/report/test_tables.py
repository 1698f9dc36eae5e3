"""Laws of the tables: every row is there, and what does not exist is a dash, not a zero."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import numpy as np

from finetune.metrics import classification
from finetune.metrics.worst import HardSequence, Shown, WrongAnswer
from finetune.report import tables


def rows(table: Element) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


def test_a_label_that_no_example_has_shows_dashes() -> None:
    result = classification.measure(np.eye(3)[[0, 1]], np.asarray([0, 1]), ["a", "b", "c"])
    assert rows(tables.classes(result.classes))[3] == ["c", "–", "–", "–", "0", "0"]


def test_a_wrong_answer_shows_both_labels_and_its_picture() -> None:
    wrong = WrongAnswer(
        index=1234,
        shown=Shown(content="cats/7.png", picture=b"\x89PNG"),
        label="cat",
        label_probability=0.01,
        answer="dog",
        answer_probability=0.99,
    )
    table = tables.wrong_answers([wrong])
    assert rows(table)[1] == ["1,234", "cats/7.png", "cat (0.010)", "dog (0.990)"]
    (picture,) = table.iter("img")
    assert picture.get("src") == "data:image;base64,iVBORw=="


def test_a_long_text_is_cut() -> None:
    hard = HardSequence(index=0, shown=Shown(content="x" * 5000), tokens=9, perplexity=12345.678)
    (_, (_, content, tokens, perplexity)) = rows(tables.hard_sequences([hard]))
    assert len(content) == 601
    assert (tokens, perplexity) == ("9", "12,345.7")
