"""Laws of the worst examples: wrong ones only, the least probable label first, whole truth each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from finetune.metrics import worst
from finetune.metrics.worst import Shown


def show(index: int) -> Shown:
    return Shown(content="abcd"[index % 4])


def test_wrong_answers_come_by_how_little_their_label_got() -> None:
    logits = np.log(np.asarray([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]], np.float32))
    labels = np.asarray([1, 1, 1, 1], np.int32)
    found = worst.wrong_answers(logits, labels, ["no", "yes"], show)
    assert [one.index for one in found] == [0, 1, 3]
    first = found[0]
    assert (first.shown.content, first.label, first.answer) == ("a", "yes", "no")
    assert first.label_probability == pytest.approx(0.1)
    assert first.answer_probability == pytest.approx(0.9)


def test_one_who_is_always_right_has_no_worst_answer() -> None:
    assert worst.wrong_answers(np.eye(2), np.asarray([0, 1]), ["no", "yes"], show) == ()


def test_the_list_is_short() -> None:
    logits = np.tile(np.asarray([[1.0, 0.0]]), (100, 1))
    found = worst.wrong_answers(logits, np.ones(100, np.int32), ["no", "yes"], show)
    assert [one.index for one in found] == list(range(worst.COUNT))


def test_hard_sequences_come_by_the_loss_of_a_token() -> None:
    nll, tokens = np.asarray([10.0, 9.0, 0.0, 4.0]), np.asarray([10, 3, 0, 1])
    found = worst.hard_sequences(nll, tokens, show)
    assert [one.index for one in found] == [3, 1, 0]
    assert found[1].perplexity == pytest.approx(math.exp(3))
    assert (found[1].shown.content, found[1].tokens) == ("b", 3)
