"""One training on real data, from a shipped recipe to a published model, and its figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finetune
from finetune import checkpoint, pipeline
from finetune import recipe as recipes
from finetune.errors import FinetuneError, TrainingError
from finetune.report import page
from tensorseek import movies
from tensorseek.errors import FetchError
from tensorseek.fetch import cache_folder
from tensorseek.progress import TerminalProgress

_OUT = Path("build", "benchmarks")
_RECIPES = Path(finetune.__file__).parent / "recipes"


Figures = dict[str, Any]


def run(name: str, write_splits: Callable[[Path], None], *, encoder: bool = False) -> Figures:
    """Trains and publishes a recipe below `build/`, unless that was done; its figures.

    Args:
        name: of the recipe; its splits go to `data/<name>`.
        encoder: take the fetched all-MiniLM-L6-v2 for a base.
    """
    try:
        return _run(name, write_splits, encoder=encoder)
    except (FinetuneError, FetchError) as error:
        sys.exit(f"benchmarks.{name}: {error}")


def _run(name: str, write_splits: Callable[[Path], None], *, encoder: bool) -> Figures:
    write_splits(Path("data", name))
    progress = TerminalProgress()
    base = [f"base_model={movies.encoder(cache_folder(), progress)}"] if encoder else []
    recipe = recipes.load(_RECIPES / f"{name}.yaml", base)
    models, runs = _OUT / "models", _OUT / "runs"
    outcome = pipeline.run(recipe, models=models, runs=runs, progress=progress)
    manifest = outcome.saved.manifest
    folder = runs / name / manifest.provenance.recipe_sha256[:16]
    training = checkpoint.record(folder / "trained")
    if training is None:
        raise TrainingError(f"{folder}: has no record of the training; remove {models / name}")
    shares = training.get("expert_shares")  # older records lack them, and most models have none
    return {
        "benchmark": name,
        **{key: round(metric.value, 4) for key, metric in manifest.metrics.items()},
        "dev_scores": [round(score, 4) for score in training["dev_scores"]],
        "best_epoch": training["best_epoch"],
        "steps": training["steps"],
        "train_s": round(training["seconds"]),
        "precision": training["policy"],
        "report": str(folder / page.FILE_NAME),
        "path": str(outcome.saved.path),
        "edge": [str(path) for path in outcome.edge],
        **({"expert_shares": shares} if shares else {}),
    }
