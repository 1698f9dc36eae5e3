"""A champion that has never seen half of the decisive words, and new data that has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune import pipeline
from finetune.data import jsonl
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.refresh.settings import Checks, Refresh

_LATER = {"great", "fine", "awful", "dull"}


@dataclass(frozen=True)
class Champion:
    """A published first version and the data that would better it."""

    recipe: Recipe
    models: Path
    rows: list[tuple[str, str]]  # text, label: of words that it does not know


@pytest.fixture(scope="session")
def champion(
    tiny_recipe: Callable[..., Recipe], tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Champion:
    folder = tmp_path_factory.mktemp("champion")
    rows = [json.loads(line) for line in (tiny_data / "train.jsonl").read_text().splitlines()]
    pairs = [(row["text"], row["label"]) for row in rows]
    later = [pair for pair in pairs if _LATER & set(pair[0].split())]
    jsonl.write(folder / "train.jsonl", [pair for pair in pairs if pair not in later])
    recipe = tiny_recipe(f"data.train={folder / 'train.jsonl'}", "edge.profiles=[float32]")
    pipeline.run(recipe, models=folder / "models", runs=folder / "runs", progress=Silent())
    return Champion(recipe, folder / "models", later)


@pytest.fixture
def recipe(champion: Champion, tmp_path: Path) -> Recipe:
    """The champion's, with a folder for new data."""
    (tmp_path / "new").mkdir()
    settings = Refresh(data=tmp_path / "new", checks=Checks(min_examples=10))
    return champion.recipe.model_copy(update={"refresh": settings})


@pytest.fixture
def wrong(champion: Champion) -> list[tuple[str, str]]:
    """New texts of the champion's own words with the wrong label."""
    other: dict[str, str] = {"positive": "negative", "negative": "positive"}
    rows: list[tuple[str, str]] = []
    path = champion.recipe.data.train
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows.append((f"the {row['text']} the", other[row["label"]]))
    return rows
