"""Laws of the shipped recipes: each says what it costs and gives, and each trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import finetune
from bundle.manifest import Task
from finetune import recipe as recipes
from finetune import tasks, trainer
from finetune.data import jsonl
from finetune.progress import Silent
from finetune.recipe import Recipe

SHIPPED = sorted((Path(finetune.__file__).parent / "recipes").glob("*.yaml"))
SPLITS = ("train", "dev", "test")
TEXT = "to be or not to be, that is the question\n" * 40
SMALL: dict[Task, tuple[str, ...]] = {
    "text-classification": ("data.buckets=[16]",),
    "image-classification": (
        "scratch.layers=1",
        "scratch.hidden=32",
        "data.image.size=32",
        "data.image.scales=[24, 32]",
    ),
    "text-generation": (
        "scratch.layers=2",
        "scratch.hidden=24",
        "scratch.heads=2",
        "scratch.vocabulary=300",
        "data.buckets=[16]",
    ),
}

by_recipe = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)


@by_recipe
def test_its_header_says_how_to_run_it_and_what_came_out(path: Path) -> None:
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command", "cost", "result"):
        assert any(line.startswith(f"# {word} ") and line.split()[2:] for line in header), word


@by_recipe
def test_it_trains_for_two_steps(path: Path, tiny_base: Path, tmp_path: Path) -> None:
    """With all of its own settings but for its sizes, over tiny data of its kind."""
    shipped = recipes.load(path)
    write = WRITERS[shipped.task]
    suffix = write(tmp_path, shipped)
    small = [f"data.{name}={tmp_path / name}{suffix}" for name in SPLITS]
    if shipped.base_model is not None:
        small.append(f"base_model={tiny_base}")
    recipe = recipes.load(path, [*small, *SMALL[shipped.task], "schedule.epochs=1"])
    data = tasks.create(recipe).load_data()
    half = -(-len(data.train) // 2)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"batch_size": half})})
    trained = trainer.train(tasks.create(recipe), recipe, data, Silent())
    assert trained.steps == 2
    assert np.isfinite(trained.losses).all()


def _texts(folder: Path, recipe: Recipe) -> str:
    rows = [("a very good film", label) for label in recipe.data.labels]
    for name in SPLITS:
        jsonl.write(folder / f"{name}.jsonl", rows)
    return ".jsonl"


def _pictures(folder: Path, recipe: Recipe) -> str:
    for name in SPLITS:
        for shade, label in enumerate(recipe.data.labels):
            (folder / name / label).mkdir(parents=True)
            Image.new("RGB", (40, 30), (20 * shade,) * 3).save(folder / name / label / "1.png")
    return ""


def _plays(folder: Path, recipe: Recipe) -> str:
    for name in SPLITS:
        (folder / f"{name}.txt").write_text(TEXT)
    return ".txt"


WRITERS: dict[Task, Callable[[Path, Recipe], str]] = {
    "text-classification": _texts,
    "image-classification": _pictures,
    "text-generation": _plays,
}
