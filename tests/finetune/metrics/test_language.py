"""Laws of perplexity: a uniform guess over V tokens has V, and long sequences weigh by length."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import EvaluationError
from finetune.metrics import language

sequences = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), min_size=1, max_size=30)


@pytest.mark.parametrize("vocabulary", [2, 50, 100_000])
def test_a_uniform_guess_has_the_perplexity_of_the_vocabulary(vocabulary: int) -> None:
    tokens = np.asarray([3, 10, 1])
    result = language.measure(tokens * math.log(vocabulary), tokens)
    perplexity, bits = result.perplexity, result.bits_per_token
    assert perplexity.value == pytest.approx(vocabulary)
    assert (perplexity.low, perplexity.high) == (pytest.approx(vocabulary),) * 2
    assert bits.value == pytest.approx(math.log2(vocabulary))
    assert (result.tokens, perplexity.n) == (14, 3)


@settings(max_examples=20)
@given(sequences)
def test_it_is_the_exponential_of_the_mean_loss_of_a_token(
    found: list[tuple[float, int]],
) -> None:
    mean, tokens = (np.asarray(column) for column in zip(*found, strict=True))
    result = language.measure(mean * tokens, tokens)
    perplexity = result.perplexity
    assert perplexity.value == pytest.approx(math.exp((mean * tokens).sum() / tokens.sum()))
    assert perplexity.low <= perplexity.value <= perplexity.high
    assert math.exp(min(mean)) * (1 - 1e-9) <= perplexity.low
    assert perplexity.high <= math.exp(max(mean)) * (1 + 1e-9)


def test_a_sequence_of_one_token_predicts_nothing() -> None:
    result = language.measure(np.asarray([0.0, 2.0]), np.asarray([0, 2]))
    assert result.perplexity.value == pytest.approx(math.e)
    assert result.perplexity.n == 1
    with pytest.raises(EvaluationError, match="no token was predicted"):
        language.measure(np.asarray([0.0]), np.asarray([0]))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e5])
def test_a_loss_that_is_no_number_or_beyond_float64_is_refused(wrong: float) -> None:
    with pytest.raises(EvaluationError, match="the loss of a sequence is"):
        language.measure(np.asarray([1.0, wrong]), np.asarray([1, 1]))


def test_a_manifest_gets_the_perplexity() -> None:
    metrics = language.measure(np.asarray([1.0]), np.asarray([1])).to_metrics("d" * 64)
    assert list(metrics) == ["perplexity"]
    assert metrics["perplexity"].value == pytest.approx(math.e)
