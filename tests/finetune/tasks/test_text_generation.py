"""Laws of language modelling: each token is predicted once, from what stands before it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tokenizers import Tokenizer

from bundle.manifest import Manifest
from finetune import evaluate, pipeline
from finetune.errors import DataError, GateRefused
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.tasks.base import TaskData
from finetune.tasks.text_generation import TextGeneration

WORDS = "the film was very good but the plot was awful and dull".split()


@pytest.fixture(scope="module")
def lm_recipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a recipe of a tiny language model from scratch; arguments are its sections."""
    folder = tmp_path_factory.mktemp("text")
    generator = np.random.default_rng(0)
    for name, count in (("train", 600), ("dev", 90), ("test", 90)):
        start = generator.integers(len(WORDS))
        words = [WORDS[(start + place) % len(WORDS)] for place in range(count)]
        (folder / f"{name}.txt").write_text(" ".join(words))

    def make(**changes: Any) -> Recipe:
        content: dict[str, Any] = {
            "name": "writer",
            "task": "text-generation",
            "scratch": {"layers": 1, "hidden": 32, "heads": 2, "vocabulary": 300, "dropout": 0.0},
            "data": {
                **{name: str(folder / f"{name}.txt") for name in ("train", "dev", "test")},
                "buckets": [16],
                "batch_size": 8,
            },
            "optimizer": {"learning_rate": 0.01},
            "schedule": {"epochs": 25},
            "precision": "float32",
            "edge": {"profiles": []},
        }
        return Recipe.model_validate(content | changes)

    return make


@pytest.fixture(scope="module")
def task(lm_recipe: Any) -> TextGeneration:
    return TextGeneration(lm_recipe())


@pytest.fixture(scope="module")
def data(task: TextGeneration) -> TaskData:
    return task.load_data()


@pytest.fixture(scope="module")
def model(task: TextGeneration) -> Any:
    return task.build_model()


def test_every_token_but_the_first_is_predicted_once(task: TextGeneration, data: TaskData) -> None:
    text = Path(task.recipe.data.test).read_text()
    tokenizer = Tokenizer.from_buffer(task.assets["tokenizer.json"])
    whole = [*tokenizer.encode(text).ids, tokenizer.token_to_id("</s>")]
    predicted = [token for ids in data.test.ids for token in ids[1:].tolist()]
    assert predicted == whole[1:]
    assert {len(ids) for ids in data.test.ids[:-1]} == {16}


def test_a_token_depends_on_none_after_it(task: TextGeneration, data: TaskData, model: Any) -> None:
    ids = np.stack(data.test.ids[:2])
    mask = np.ones_like(ids)
    logits = task.logits(model, {"input_ids": ids, "attention_mask": mask}, training=False)
    changed = ids.copy()
    changed[:, 9:] = 5
    others = task.logits(model, {"input_ids": changed, "attention_mask": mask}, training=False)
    np.testing.assert_allclose(logits[:, :9], others[:, :9], atol=1e-5)
    assert np.abs(logits[:, 9:] - others[:, 9:]).max() > 1e-3


def test_the_loss_is_of_the_next_token_and_padding_counts_nothing(
    task: TextGeneration, data: TaskData, model: Any
) -> None:
    ids = data.test.ids[0]
    batch = {name: tf.constant(each) for name, each in task.preprocessor.pad([ids[:10]]).items()}
    batch["weights"] = tf.ones([1])
    logits = task.logits(model, batch, training=False)
    losses, weights = task.loss(logits, batch).numpy()[0], task.weights(batch).numpy()[0]
    assert weights.tolist() == [1.0] * 9 + [0.0] * 6
    probabilities = tf.nn.softmax(logits[0]).numpy()
    for place in range(9):
        expected = -np.log(probabilities[place, ids[place + 1]])
        assert losses[place] == pytest.approx(expected, rel=1e-4)
    assert not task.weights(batch | {"weights": tf.zeros([1])}).numpy().any()


def test_the_answer_is_the_token_after_the_last(
    task: TextGeneration, data: TaskData, model: Any
) -> None:
    """Whatever the padding."""
    ids = [data.test.ids[0][:5], data.test.ids[1][:12]]
    padded = {name: tf.constant(each) for name, each in task.preprocessor.pad(ids).items()}
    found = task.answer(model, padded).numpy()
    for row, own in zip(found, ids, strict=True):
        alone = {"input_ids": own[None], "attention_mask": np.ones_like(own)[None]}
        expected = task.logits(model, alone, training=False).numpy()[0, -1]
        np.testing.assert_allclose(row, expected, atol=1e-4)


def test_likelihood_is_the_sum_over_each_sequence(
    task: TextGeneration, data: TaskData, model: Any
) -> None:
    result = evaluate.likelihood(task, model, data.dev, progress=Silent(), title="", batch_size=3)
    assert result.tokens.tolist() == [len(ids) - 1 for ids in data.dev.ids]
    for place in (0, len(data.dev) - 1):
        ids = data.dev.ids[place]
        batch = {name: tf.constant(each) for name, each in task.preprocessor.pad([ids]).items()}
        batch["weights"] = tf.ones([1])
        losses = task.loss(task.logits(model, batch, training=False), batch) * task.weights(batch)
        assert result.nll[place] == pytest.approx(float(tf.reduce_sum(losses)), rel=1e-4)


def test_it_learns_and_is_published(lm_recipe: Any, tmp_path: Path) -> None:
    """From text to a SavedModel whose next word is the right one."""
    outcome = pipeline.run(
        lm_recipe(), models=tmp_path / "models", runs=tmp_path / "runs", progress=Silent()
    )
    manifest: Manifest = outcome.saved.manifest
    assert manifest.metrics["perplexity"].value < 3.5  # of 280 tokens
    assert (manifest.labels, outcome.edge) == ((), [])
    serve = tf.saved_model.load(str(outcome.saved.path)).signatures["serving_default"]
    task = TextGeneration(lm_recipe())
    tensors = task.preprocessor(["the film was very good but the plot was awful and"])
    logits = serve(**{name: tf.constant(each) for name, each in tensors.items()})["logits"]
    tokenizer = Tokenizer.from_buffer(outcome.saved.read("tokenizer.json"))
    assert tokenizer.decode([int(logits.numpy()[0].argmax())]).strip().startswith("d")


def test_a_perplexity_over_the_limit_is_refused(lm_recipe: Any, tmp_path: Path) -> None:
    recipe = lm_recipe(evaluation={"max_perplexity": 1.0001}, schedule={"epochs": 1})
    with pytest.raises(GateRefused, match=r"writer: refused: test perplexity .* is over .*1\.0001"):
        pipeline.run(recipe, models=tmp_path / "m", runs=tmp_path / "r", progress=Silent())
    assert not (tmp_path / "m" / "writer").exists()


def test_a_text_of_one_token_is_refused(lm_recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("x")
    recipe = lm_recipe()
    short = recipe.model_copy(update={"data": recipe.data.model_copy(update={"dev": path})})
    task = TextGeneration(short)
    assert len(task.load_data().dev.ids[0]) == 2  # the text's end is to be predicted
    task.base.config["eos_token_id"] = None  # a base model without one
    with pytest.raises(DataError, match=r"short\.txt: has fewer than 2 tokens"):
        task.load_data()
