"""The trained models that the benchmarks of the edge measure: published once, then taken up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import real_data, real_run
from bundle.repository import ModelRepository, SavedBundle
from finetune import pipeline
from finetune.progress import Progress
from tensorseek import quickstart

_MOVIES = Path("models")
_REAL = Path("build", "benchmarks", "models")

Found = tuple[ModelRepository, SavedBundle]


def movies(progress: Progress) -> Found:
    """The quickstart's classifier of movie reviews."""

    def train() -> None:
        recipe = quickstart.movie_sentiment(Path("data"), progress)
        pipeline.run(recipe, models=_MOVIES, runs=Path("runs"), progress=progress)

    return _published(_MOVIES, "movie-sentiment", train)


def banking77() -> Found:
    """The classifier of bank customers' questions."""
    return _published(
        _REAL, "banking77", lambda: real_run.run("banking77", real_data.banking77, encoder=True)
    )


def clothing() -> Found:
    """The classifier of clothing photos."""
    return _published(_REAL, "clothing", lambda: real_run.run("clothing", real_data.clothing))


def deepseek_v3_tiny() -> Found:
    """The language model of Shakespeare's plays."""
    name = "deepseek-v3-tiny"
    return _published(_REAL, name, lambda: real_run.run(name, real_data.tinyshakespeare))


def _published(root: Path, name: str, train: Callable[[], object]) -> Found:
    repository = ModelRepository(root)
    if not repository.versions(name):
        train()
    return repository, repository.load(name)
