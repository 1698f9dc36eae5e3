"""Whether what a gateway has counted speaks against a version on trial.

Calls are dealt to both versions at random, so what differs between them is the versions' doing, or
chance; each test says how likely chance is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from finetune.refresh.settings import Canary
from tensorseek.canary.counts import Counts

_DRAWS = 2000
_TAIL = 0.95  # of the calls
_STRICTER = 10  # times: each look is one more chance to see what is not there
_FEW = 30  # calls: a tail of fewer is one call


def alarms(champion: Counts, trial: Counts, limits: Canary) -> list[str]:
    """What ends a trial before it has had all its calls; to be asked again and again."""
    return [*_withheld(trial), *_errors(champion, trial, limits.significance / _STRICTER)]


def faults(champion: Counts, trial: Counts, limits: Canary) -> list[str]:
    """Why the version on trial must not get every call; to be asked once, at the end."""
    return [
        *_withheld(trial),
        *_errors(champion, trial, limits.significance),
        *_slowness(champion, trial, limits.max_slowdown),
        *_labels(champion, trial, limits),
    ]


def chance_of_errors(champion: Counts, trial: Counts) -> float:
    """How likely at least as many of all errors fall to the trial, were both equally good.

    Source:
        Fisher's exact test, one-sided: Agresti: Categorical Data Analysis (2013), section 3.5.1.
    """
    everything = champion.calls + trial.calls
    errors = champion.errors + trial.errors
    whole = _log_choose(everything, trial.calls)
    most = min(errors, trial.calls)
    terms = (
        math.exp(
            _log_choose(errors, here) + _log_choose(everything - errors, trial.calls - here) - whole
        )
        for here in range(trial.errors, most + 1)
        if trial.calls - here <= everything - errors
    )
    return min(1.0, math.fsum(terms))


def label_shift(champion: Counts, trial: Counts) -> tuple[float, float]:
    """Total variation between both versions' labels, and how likely chance alone gives as much.

    Source:
        A permutation test of homogeneity, by Monte Carlo: Agresti (2013), section 3.5.7.
    """
    names = sorted({*champion.labels, *trial.labels})
    counts = np.asarray(
        [[each.labels.get(name, 0) for name in names] for each in (champion, trial)], np.int64
    )
    sizes = counts.sum(-1)
    if not names or not sizes.all():
        return 0.0, 1.0
    generator = np.random.default_rng(0)
    drawn = generator.multivariate_hypergeometric(counts.sum(0), sizes[1], size=_DRAWS)
    found, by_chance = (
        np.abs(there / sizes[1] - (counts.sum(0) - there) / sizes[0]).sum(-1) / 2
        for there in (counts[1], drawn)
    )
    as_large = int((by_chance >= found - 1e-12).sum())
    return float(found), (as_large + 1) / (_DRAWS + 1)


def _withheld(trial: Counts) -> Iterator[str]:
    if trial.withheld:
        yield "the gateway withholds it: the backend does not give its golden answers"


def _errors(champion: Counts, trial: Counts, significance: float) -> Iterator[str]:
    chance = chance_of_errors(champion, trial)
    if trial.errors and chance < significance:
        yield (
            f"{trial.errors} of its {trial.calls} calls failed, {champion.errors} of "
            f"{champion.calls} of the champion's; p {chance:.2g}, by canary.significance under "
            f"{significance:g}"
        )


def _slowness(champion: Counts, trial: Counts, most: float) -> Iterator[str]:
    if min(champion.calls, trial.calls) < _FEW:
        return
    usual, found = champion.quantile_s(_TAIL), trial.quantile_s(_TAIL)
    if found > most * usual:
        yield (
            f"95 of 100 of its calls take up to {1e3 * found:.1f} ms, the champion's "
            f"{1e3 * usual:.1f} ms; over canary.max_slowdown {most:g}"
        )


def _labels(champion: Counts, trial: Counts, limits: Canary) -> Iterator[str]:
    shift, chance = label_shift(champion, trial)
    if shift > limits.max_label_shift and chance < limits.significance:
        yield (
            f"its labels are {shift:.3f} away from the champion's, over canary.max_label_shift "
            f"{limits.max_label_shift}, p {chance:.2g}"
        )


def _log_choose(of: int, taken: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(taken + 1) - math.lgamma(of - taken + 1)
