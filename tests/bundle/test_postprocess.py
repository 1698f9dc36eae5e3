"""Laws of postprocessing: scores are probabilities, in an order that never depends on chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.manifest import Quantization, TensorSpec
from bundle.postprocess import LabelScore, rank_labels, real, softmax

logits = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(logits)
def test_scores_are_probabilities_that_sum_to_one(values: np.ndarray) -> None:
    scores = softmax(values)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    assert (scores <= 1).all()
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-6)


@given(logits, st.floats(-100, 100))
def test_a_shift_of_all_logits_changes_nothing(values: np.ndarray, shift: float) -> None:
    values = values / 1000
    np.testing.assert_allclose(softmax(values + np.float32(shift)), softmax(values), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 1e4, 6.5e4])
def test_large_logits_of_any_float_stay_finite(dtype: type, size: float) -> None:
    (row,) = softmax(np.asarray([[size, -size, size]], dtype))
    rest = np.exp(-2 * size) if size < 100 else 0.0
    np.testing.assert_allclose(row, np.asarray([1, rest, 1]) / (2 + rest), rtol=1e-5)


def test_known_values() -> None:
    np.testing.assert_allclose(softmax(np.asarray([[0.0, np.log(3)]])), [[0.25, 0.75]], rtol=1e-6)


def test_labels_come_with_the_most_probable_first() -> None:
    first, second = rank_labels(np.asarray([[0.0, np.log(3.0)], [9.0, 0.0]]), ("no", "yes"))
    assert first == [LabelScore("yes", pytest.approx(0.75)), LabelScore("no", pytest.approx(0.25))]
    assert [score.label for score in second] == ["no", "yes"]
    assert all(type(score.score) is float for score in first + second)


def test_equal_scores_keep_the_order_of_the_manifest() -> None:
    labels = [f"label {index}" for index in range(40)]
    (row,) = rank_labels(np.zeros((1, 40), np.float32), labels)
    assert [score.label for score in row] == labels


@given(logits)
def test_every_label_appears_once_in_falling_order(values: np.ndarray) -> None:
    labels = [str(index) for index in range(values.shape[1])]
    for row in rank_labels(values, labels):
        assert sorted(score.label for score in row) == sorted(labels)
        scores = [score.score for score in row]
        assert scores == sorted(scores, reverse=True)


def test_integers_stand_for_numbers_as_their_signature_says() -> None:
    plain = TensorSpec(name="logits", dtype="float32", shape=(1, 3))
    values = np.asarray([1.5, -2, 3], np.float32)
    assert real(values, plain).tolist() == values.tolist()
    scaled = Quantization(scale=0.5, zero_point=-3)
    spec = TensorSpec(name="logits", dtype="int8", shape=(1, 3), quantization=scaled)
    found = real(np.asarray([-128, -3, 127], np.int8), spec)
    assert found.dtype == np.float32
    assert found.tolist() == [-62.5, 0, 65]
