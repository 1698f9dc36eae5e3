"""What a language model's predictions are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Metric
from finetune.errors import EvaluationError
from finetune.metrics import interval
from finetune.metrics.interval import Counts, Estimate

_MOST_NATS = 700.0  # of a mean; the exponential of more is beyond float64


@dataclass(frozen=True, kw_only=True)
class LanguageResult:
    """Every figure of a language model on one data set. `n` of an estimate counts sequences."""

    perplexity: Estimate
    bits_per_token: Estimate
    tokens: int  # that were predicted

    @property
    def figures(self) -> dict[str, Estimate]:
        """The figures that say it in short, by name."""
        return {"perplexity": self.perplexity, "bits_per_token": self.bits_per_token}

    def to_metrics(self, data_sha256: str) -> dict[str, Metric]:
        """The figures that go into a manifest, by name."""
        return {"perplexity": self.perplexity.metric(data_sha256)}


def measure(nll: NDArray[np.float64], tokens: NDArray[np.integer]) -> LanguageResult:
    """Measures the predictions of N sequences.

    The interval resamples whole sequences, since the tokens of one depend on each other.

    Args:
        nll: float64 [N]: negative log-likelihood, in nats, summed over the sequence's tokens.
        tokens: [N]: how many tokens of the sequence were predicted.

    Raises:
        EvaluationError: a likelihood is not a number, or no token was predicted.

    Source:
        Jelinek et al.: Perplexity, a measure of the difficulty of speech recognition tasks
        (1977); exp of the mean negative log-likelihood of a token.
    """
    predicted = tokens > 0  # a sequence of one token predicts nothing
    nll, tokens = nll[predicted], tokens[predicted]
    if not len(tokens):
        raise EvaluationError("no token was predicted; give texts of at least 2 tokens")
    worst = float(np.max(nll / tokens, initial=0.0))
    if not worst < _MOST_NATS:  # also true for NaN
        raise EvaluationError(
            f"the loss of a sequence is {worst:g} nats a token; train again with a lower "
            "optimizer.learning_rate"
        )

    def bits(drawn: Counts) -> float:
        return float((drawn * nll).sum() / (drawn * tokens).sum() / math.log(2))

    found = interval.bootstrap(bits, len(tokens))
    return LanguageResult(
        perplexity=Estimate(value=2**found.value, low=2**found.low, high=2**found.high, n=found.n),
        bits_per_token=found,
        tokens=int(tokens.sum()),
    )
