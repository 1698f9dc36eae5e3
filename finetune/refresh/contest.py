"""The champion and a challenger answer the same examples; language models: see `likelihood`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle import preprocess
from bundle.repository import SavedBundle
from finetune import answers, labelled
from finetune.errors import RefreshError
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.refresh import comparison, likelihood, plan
from finetune.refresh.comparison import Comparison
from finetune.refresh.likelihood import Likelihood

Labels = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How champion and challenger answered, as a report has it, and what speaks against the new."""

    faults: tuple[str, ...] = ()
    holdout: Comparison | None = None
    new: Comparison | None = None
    likelihood: Likelihood | None = None
    new_likelihood: Likelihood | None = None


def judge(
    champion: SavedBundle,
    challenger: SavedBundle,
    recipe: Recipe,
    kept: Path | None,
    progress: Progress,
) -> Compared:
    """Has both answer the recipe's test split, and new examples that neither has learnt.

    Args:
        kept: those; None without any.

    Raises:
        RefreshError: they can't be compared.
        DataError: the test split can't be used.
    """
    limits = plan.settings_of(recipe).limits
    if recipe.task == "text-generation":
        writers = likelihood.Contest(champion, challenger, progress)
        thought = writers.compare(recipe.data.test)
        new_thought = None if kept is None else writers.compare(kept)
        return Compared(
            faults=tuple(likelihood.faults(thought, new_thought, limits)),
            likelihood=thought,
            new_likelihood=new_thought,
        )
    both = Contest(champion, challenger, recipe, progress)
    new = None if kept is None else both.compare(kept)
    holdout = both.compare(recipe.data.test)
    faults = tuple(comparison.faults(holdout, new, limits))
    return Compared(faults=faults, holdout=holdout, new=new)


class Contest:
    """Both classifiers, as they are published.

    Raises:
        RefreshError: they don't answer with the same labels.
    """

    def __init__(
        self, champion: SavedBundle, challenger: SavedBundle, recipe: Recipe, progress: Progress
    ) -> None:
        check_labels(champion, recipe)
        self._recipe, self._progress = recipe, progress
        with progress.timed("load both models", expected_s=8):
            self._models = [_Contestant(saved, recipe) for saved in (champion, challenger)]

    def compare(self, path: Path) -> Comparison:
        """What each makes of a data set.

        Raises:
            DataError: it can't be used.
        """
        found = [model.answer(path, self._progress) for model in self._models]
        (champion, labels), (challenger, _) = found
        return comparison.compare(champion, challenger, labels, self._recipe.data.labels)


def check_labels(champion: SavedBundle, recipe: Recipe) -> None:
    """Refuses a recipe that asks another question than the champion answers.

    Raises:
        RefreshError: it does.
    """
    had, has = champion.manifest.labels, recipe.data.labels
    if had != has:
        raise RefreshError(
            f"{recipe.name}: data.labels are {list(has)}, those of version "
            f"{champion.manifest.version} are {list(had)}: the two can't be compared; train the "
            "new one with tensorseek train"
        )


class _Contestant:
    def __init__(self, saved: SavedBundle, recipe: Recipe) -> None:
        self._recipe = recipe
        self._preprocessor = preprocess.create(saved.manifest.preprocess, saved.read)
        self._forward = answers.forward(saved)

    def answer(self, path: Path, progress: Progress) -> tuple[Labels, Labels]:
        """Its answers [N], and the labels [N] that the examples have."""
        settings = self._recipe.data
        data = labelled.read(path, settings.labels, self._preprocessor, settings.model_dump())
        logits = answers.logits(self._forward, self._preprocessor, data, progress)
        return logits.argmax(-1).astype(np.int32), data.labels
