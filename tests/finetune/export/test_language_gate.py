"""Laws of the language gate: it counts what the models say, and names every broken limit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from finetune.errors import GateRefused
from finetune.export import language_gate
from finetune.export.language_gate import Verdict
from finetune.recipe import LanguageGates

GOOD = Verdict(
    examples=3,
    tokens=30,
    float_perplexity=20.0,
    perplexity=20.2,
    rise=0.01,
    rise_low=0.0,
    rise_high=0.02,
    agreement=0.95,
    max_difference=0.3,
    usual_difference=0.1,
    different=12,
)


def test_a_model_within_its_limits_passes() -> None:
    language_gate.check("it", GOOD, LanguageGates())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rise": 0.03}, "perplexity rise 0.0300 is over max_rise 0.02"),
        ({"rise": np.nan}, "perplexity rise nan is over"),
        ({"agreement": 0.8}, "agreement 0.8000 is under min_agreement 0.9"),
        ({"usual_difference": np.nan}, "a logit is not a number"),
        ({"different": 1}, "every answer is the same"),
    ],
)
def test_each_broken_limit_is_named_with_its_figure(change: dict[str, float], problem: str) -> None:
    with pytest.raises(GateRefused, match=rf"it: refused: {problem}.*30 test tokens"):
        language_gate.check("it", dataclasses.replace(GOOD, **change), LanguageGates())


def test_the_verdict_is_what_the_likelihoods_say() -> None:
    """Two sequences; of the second one token does not count."""
    generator = np.random.default_rng(0)
    floats = [generator.normal(size=(size, 7)).astype(np.float32) for size in (4, 6)]
    others = [each + generator.normal(size=each.shape).astype(np.float32) / 5 for each in floats]
    ids = [generator.integers(7, size=size).astype(np.int32) for size in (4, 6)]
    weights = [np.ones(7), np.asarray([1, 0, 1, 1, 1, 0, 0])]  # padded to a bucket of 8
    verdict = language_gate._verdict(
        [language_gate._compare(*each) for each in zip(ids, weights, floats, others, strict=True)]
    )

    def mean_nll(models: list[np.ndarray]) -> float:
        total = 0.0
        for row, mask, logits in zip(ids, weights, models, strict=True):
            shares = np.exp(logits[:-1]) / np.exp(logits[:-1]).sum(-1, keepdims=True)
            told = -np.log(shares[np.arange(len(row) - 1), row[1:]])
            total += float((told * mask[: len(row) - 1]).sum())
        return total / 7

    assert verdict.tokens == 7
    assert verdict.float_perplexity == pytest.approx(np.exp(mean_nll(floats)), rel=1e-5)
    assert verdict.perplexity == pytest.approx(np.exp(mean_nll(others)), rel=1e-5)
    assert verdict.rise == pytest.approx(verdict.perplexity / verdict.float_perplexity - 1)
    assert verdict.different == len(set(np.concatenate(others).argmax(-1).tolist()))
    same = [(a.argmax(-1) == b.argmax(-1)).sum() for a, b in zip(floats, others, strict=True)]
    assert verdict.agreement == sum(same) / 10
    both = np.concatenate(floats) - np.concatenate(others)
    assert verdict.usual_difference == pytest.approx(float(np.sqrt((both**2).mean())), rel=1e-5)
    assert verdict.max_difference == pytest.approx(float(np.abs(both).max()), rel=1e-5)
