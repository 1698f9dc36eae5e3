"""Law: a checkpoint of the family is trained, published and served as any other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bundle import golden
from finetune import pipeline
from finetune.progress import Silent
from finetune.recipe import Recipe

GOLDEN = Path(__file__).parent / "golden"
WORDS = "the film was very good but the plot was awful and dull".split()


@pytest.fixture
def base(tmp_path: Path, tokenizer_json: bytes) -> Path:
    """A V3 checkpoint with a tokenizer."""
    folder = Path(shutil.copytree(GOLDEN / "v3", tmp_path / "base"))
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    return folder


def test_a_classifier_is_trained_published_and_answers_as_trained(
    base: Path, tiny_recipe: Any, tmp_path: Path
) -> None:
    recipe = tiny_recipe(
        f"base_model={base}",
        "edge.profiles=[]",
        "schedule.epochs=3",
        "optimizer.learning_rate=0.003",
        "memory.gradient_checkpointing=true",
    )
    outcome = pipeline.run(
        recipe, models=tmp_path / "models", runs=tmp_path / "runs", progress=Silent()
    )
    assert outcome.saved.manifest.metrics["accuracy"].value > 0.85
    serve = tf.saved_model.load(str(outcome.saved.path)).signatures["serving_default"]
    task = pipeline.tasks.create(recipe)
    examples = golden.decode(outcome.saved.read(golden.FILE_NAME), "golden")

    def answer(text: str) -> Any:
        tensors = task.preprocessor([text])
        inputs = {name: tf.constant(each) for name, each in tensors.items()}
        return serve(**inputs)["logits"].numpy()[0]

    assert golden.check(examples, answer, "served") < 1e-3


def test_a_language_model_learns(base: Path, tmp_path: Path) -> None:
    for name, count in (("train", 400), ("dev", 60), ("test", 60)):
        words = [WORDS[place % len(WORDS)] for place in range(count)]
        (tmp_path / f"{name}.txt").write_text(" ".join(words))
    recipe = Recipe.model_validate(
        {
            "name": "writer",
            "task": "text-generation",
            "base_model": str(base),
            "data": {
                **{name: str(tmp_path / f"{name}.txt") for name in ("train", "dev", "test")},
                "buckets": [16],
                "batch_size": 4,
            },
            "optimizer": {"learning_rate": 0.005},
            "schedule": {"epochs": 6},
            "precision": "float32",
            "edge": {"profiles": []},
        }
    )
    outcome = pipeline.run(recipe, models=tmp_path / "m", runs=tmp_path / "r", progress=Silent())
    assert outcome.saved.manifest.metrics["perplexity"].value < 4
    assert np.isfinite(outcome.saved.manifest.metrics["perplexity"].high or np.inf)
