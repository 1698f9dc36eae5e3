"""Laws of intervals: they hold their figure, shrink with n, and cover the truth 95 times in 100."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.metrics import interval
from finetune.metrics.interval import Counts, Estimate


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_the_published_one(
    hits: int, n: int, low: float, high: float
) -> None:
    """Newcombe (1998), Two-sided confidence intervals for the single proportion, table I."""
    assert interval.wilson(hits, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_lies_in_0_to_1(counts: tuple[int, int]) -> None:
    hits, n = counts
    found = interval.share(hits, n)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    assert found.value == hits / n


def mean_of(sample: np.ndarray) -> Estimate:
    def mean(drawn: Counts) -> float:
        return float((drawn * sample).sum() / drawn.sum())

    return interval.bootstrap(mean, len(sample))


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    sample = np.random.default_rng(0).normal(size=400)
    found = mean_of(sample)
    error = 1.96 * sample.std() / np.sqrt(len(sample))
    assert found.value == pytest.approx(sample.mean())
    assert found.low == pytest.approx(sample.mean() - error, abs=error / 5)
    assert found.high == pytest.approx(sample.mean() + error, abs=error / 5)


def test_the_bootstrap_covers_the_truth_95_times_in_100() -> None:
    samples = np.random.default_rng(1).normal(3, 1, (200, 80))
    found = [mean_of(sample) for sample in samples]
    assert 180 <= sum(one.low <= 3 <= one.high for one in found) <= 198


def test_the_same_examples_have_the_same_interval() -> None:
    sample = np.random.default_rng(2).normal(size=50)
    assert mean_of(sample) == mean_of(sample)


def test_an_interval_holds_a_figure_that_lies_below_its_resamples() -> None:
    """Any sum of squared differences from the draw of one each is least at that draw."""
    found = interval.bootstrap(lambda drawn: float(((drawn - 1) ** 2).sum()), 20)
    assert found.low == found.value == 0 < found.high


def test_a_manifest_gets_all_of_it() -> None:
    metric = Estimate(value=0.5, low=0.4, high=0.6, n=7).metric("d" * 64)
    assert (metric.value, metric.low, metric.high, metric.n) == (0.5, 0.4, 0.6, 7)
    assert metric.data_sha256 == "d" * 64
