"""Laws of a classifier's figures: each is what a plain loop finds, whatever the examples' order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import EvaluationError
from finetune.metrics import classification
from finetune.metrics.classification import BINS, ClassificationResult

Answers = tuple[Any, Any]  # logits float32 [N, C], labels int32 [N]

few = settings(max_examples=15)  # each draws a thousand resamples, twice


@st.composite
def answers(draw: st.DrawFn) -> Answers:
    """Up to 60 answers over 2 to 5 labels, some of which no example has."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, labels = draw(st.integers(1, 60)), draw(st.integers(2, 5))
    scale = draw(st.sampled_from([0.0, 1.0, 10.0, 1000.0]))
    logits = (scale * generator.normal(size=(n, labels))).astype(np.float32)
    return logits, generator.integers(draw(st.integers(1, labels)), size=n).astype(np.int32)


def measure(found: Answers) -> ClassificationResult:
    logits, labels = found
    return classification.measure(logits, labels, [f"c{c}" for c in range(logits.shape[1])])


@few
@given(answers())
def test_accuracy_and_confusion_are_what_counting_finds(found: Answers) -> None:
    logits, labels = found
    result, answered = measure(found), logits.argmax(-1)
    for true in range(logits.shape[1]):
        for given_ in range(logits.shape[1]):
            count = sum((labels == true) & (answered == given_))
            assert result.confusion[true, given_] == count
    assert result.accuracy.value == np.mean(answered == labels)


@few
@given(answers())
def test_macro_f1_is_the_mean_of_what_a_loop_finds(found: Answers) -> None:
    logits, labels = found
    answered = logits.argmax(-1)
    scores = []
    for label in set(labels.tolist()):
        hits = sum((labels == label) & (answered == label))
        precision = hits / max(sum(answered == label), 1)
        recall = hits / sum(labels == label)
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    result = measure(found)
    assert result.macro_f1.value == pytest.approx(np.mean(scores))
    own = [score.f1 for score in result.classes if score.f1 is not None]
    assert own == pytest.approx(scores)


@few
@given(answers())
def test_the_calibration_error_is_what_a_loop_over_the_bins_finds(found: Answers) -> None:
    logits, labels = found
    probabilities = classification.softmax(logits)
    total = 0.0
    for place in range(BINS):
        inside = [
            (row.max(), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if place / BINS < row.max() <= (place + 1) / BINS
        ]
        if inside:
            confidence, hit = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(confidence - hit)
    assert measure(found).ece.value == pytest.approx(total, abs=1e-9)


@few
@given(answers(), st.randoms())
def test_no_figure_depends_on_the_order_of_the_examples(found: Answers, random: Any) -> None:
    logits, labels = found
    order = list(range(len(labels)))
    random.shuffle(order)
    one, other = measure(found), measure((logits[order], labels[order]))
    for name in ("accuracy", "macro_f1", "ece"):
        assert getattr(one, name).value == pytest.approx(getattr(other, name).value)
    np.testing.assert_array_equal(one.confusion, other.confusion)
    assert one.classes == other.classes


@few
@given(answers())
def test_every_interval_holds_its_figure_and_lies_in_0_to_1(found: Answers) -> None:
    result = measure(found)
    for figure in (result.accuracy, result.macro_f1, result.ece):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.n == len(found[1])


@few
@given(answers())
def test_the_bins_hold_every_example_once(found: Answers) -> None:
    bins = measure(found).bins
    assert len(bins) == BINS
    assert sum(one.n for one in bins) == len(found[1])
    for one in bins:
        if one.confidence is not None:
            assert one.low - 1e-9 <= one.confidence <= one.high + 1e-9


def test_one_who_is_certain_and_right_is_perfect() -> None:
    labels = np.asarray([0, 1, 2, 1], np.int32)
    result = measure((1000 * np.eye(3, dtype=np.float32)[labels], labels))
    assert result.accuracy.value == result.macro_f1.value == 1
    assert (result.ece.value, result.ece.low, result.ece.high) == (0, 0, 0)


def test_one_who_is_certain_and_always_wrong_errs_by_all_of_it() -> None:
    labels = np.asarray([0, 1, 0], np.int32)
    result = measure((1000 * np.eye(2, dtype=np.float32)[1 - labels], labels))
    assert (result.accuracy.value, result.macro_f1.value, result.ece.value) == (0, 0, 1)


def test_one_who_says_70_percent_and_is_right_7_times_in_10_is_calibrated() -> None:
    logits = np.tile(np.log(np.asarray([0.7, 0.3], np.float32)), (10, 1))
    labels = np.asarray([0] * 7 + [1] * 3, np.int32)
    assert measure((logits, labels)).ece.value == pytest.approx(0, abs=1e-7)


def test_labels_that_no_example_has_are_named_and_left_out() -> None:
    logits = np.asarray([[5, 0, 0], [0, 5, 0], [0, 0, 5]], np.float32)
    result = measure((logits, np.asarray([0, 1, 1], np.int32)))
    assert result.absent == ("c2",)
    assert result.macro_f1.value == pytest.approx((1 + 2 / 3) / 2)
    absent = result.classes[2]
    assert (absent.support, absent.answers) == (0, 1)
    assert (absent.precision, absent.recall, absent.f1) == (0, None, None)


def test_a_label_that_is_never_given_has_no_precision() -> None:
    result = measure((np.asarray([[1, 0]] * 2, np.float32), np.asarray([0, 1], np.int32)))
    assert result.classes[1].precision is None
    assert (result.classes[1].recall, result.classes[1].f1) == (0, 0)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_named(wrong: float) -> None:
    logits = np.asarray([[0, 1], [wrong, 0]], np.float32)
    with pytest.raises(EvaluationError, match=r"1 of 2 answers are not numbers.* example 1: "):
        measure((logits, np.asarray([0, 0], np.int32)))


def test_a_manifest_gets_the_three_figures() -> None:
    result = measure((np.eye(2, dtype=np.float32), np.asarray([0, 1], np.int32)))
    metrics = result.to_metrics("d" * 64)
    assert list(metrics) == ["accuracy", "macro_f1", "ece"]
    assert metrics["accuracy"].value == 1
    assert {metric.n for metric in metrics.values()} == {2}
