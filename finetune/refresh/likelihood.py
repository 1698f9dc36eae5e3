"""Champion against challenger, language models: how likely each thinks the same texts.

Both read the same tokens, so their log-likelihoods are compared sequence by sequence: what makes a
text hard makes it hard for both, and only the difference tells the two apart.
"""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bundle.repository import EXTRA, SavedBundle
from finetune import recipe as recipes
from finetune.errors import RefreshError
from finetune.progress import Progress
from finetune.refresh.settings import Limits

Nats = NDArray[np.float64]

_FLIPS = 10_000
_TOKENIZER = f"{EXTRA}/tokenizer.json"


class Likelihood(msgspec.Struct, frozen=True, kw_only=True):
    """What two language models make of the same N sequences."""

    sequences: int
    tokens: int  # that were predicted
    champion: float  # perplexity
    challenger: float
    harder: int  # sequences that the challenger thinks less likely
    p_worse: float  # how likely a loss at least as large is, if the two are equally good

    @property
    def rise(self) -> float:
        """Of the perplexity, as a share; negative where it falls."""
        return self.challenger / self.champion - 1


def compare(champion: Nats, challenger: Nats, tokens: NDArray[np.int64]) -> Likelihood:
    """Compares two models' negative log-likelihoods [N], in nats, of sequences of tokens [N].

    Source:
        A paired randomization test, by Monte Carlo: were both equally good, each sequence's
        difference would have either sign. Noreen: Computer-intensive methods for testing
        hypotheses (1989), section 2.
    """
    lost = challenger - champion
    generator = np.random.default_rng(0)
    as_large = 0
    for _ in range(_FLIPS):
        signs = generator.integers(0, 2, len(lost)) * 2 - 1
        as_large += bool((signs * lost).sum() >= lost.sum() - 1e-9)
    return Likelihood(
        sequences=len(tokens),
        tokens=int(tokens.sum()),
        champion=math.exp(champion.sum() / tokens.sum()),
        challenger=math.exp(challenger.sum() / tokens.sum()),
        harder=int((lost > 0).sum()),
        p_worse=(as_large + 1) / (_FLIPS + 1),
    )


def faults(holdout: Likelihood, new: Likelihood | None, limits: Limits) -> list[str]:
    """Why the challenger must not replace the champion; empty when it may.

    Args:
        holdout: on the frozen test split.
        new: on new texts that neither has learnt; None where there are none.
    """
    found = []
    if holdout.rise > limits.max_rise:
        found.append(
            f"perplexity on the test split rises from {holdout.champion:.4g} to "
            f"{holdout.challenger:.4g}, by more than limits.max_rise {limits.max_rise}"
        )
    if holdout.rise > 0 and holdout.p_worse < limits.significance:
        found.append(
            f"it is worse on the test split, p {holdout.p_worse:.4f} < limits.significance "
            f"{limits.significance} ({holdout.harder} of {holdout.sequences} sequences are harder)"
        )
    if new is not None and new.rise > limits.max_new_rise:
        found.append(
            f"perplexity on new texts rises from {new.champion:.4g} to {new.challenger:.4g}, by "
            f"more than limits.max_new_rise {limits.max_new_rise}"
        )
    return found


class Contest:
    """Both models, as they are published.

    Raises:
        RefreshError: they don't read the same tokens.
    """

    def __init__(self, champion: SavedBundle, challenger: SavedBundle, progress: Progress) -> None:
        read = [each.manifest.files[_TOKENIZER] for each in (champion, challenger)]
        if read[0] != read[1]:
            raise RefreshError(
                f"{champion.manifest.name}: its tokenizer is not that of version "
                f"{champion.manifest.version}: their likelihoods can't be compared; train the new "
                "one with tensorseek train"
            )
        self._models, self._progress = (champion, challenger), progress

    def compare(self, path: Path) -> Likelihood:
        """What each makes of a data set.

        Raises:
            DataError: it can't be used.
        """
        (champion, tokens), (challenger, _) = (self._measure(each, path) for each in self._models)
        return compare(champion, challenger, tokens)

    def _measure(self, saved: SavedBundle, path: Path) -> tuple[Nats, NDArray[np.int64]]:
        from finetune.evaluate import Modelled  # noqa: PLC0415 (TensorFlow)
        from finetune.rebuilt import Rebuilt  # noqa: PLC0415

        recipe = recipes.parse(saved.manifest.provenance.recipe, str(saved.path))
        rebuilt = Rebuilt(recipe, path)
        found = rebuilt.measure(saved.path / "variables" / "variables", self._progress)
        assert isinstance(found, Modelled), "both are language models"  # noqa: S101
        return found.nll, found.tokens
