"""Law: a checkpoint of the family is trained, published and served as any other."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bundle import golden
from finetune import pipeline, tasks, trainer
from finetune.deepseek import adapter, checkpoint
from finetune.deepseek.lora import Adapted
from finetune.errors import Interrupted
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.trainer import Trained

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


def language_recipe(folder: Path, base: Path, **changes: Any) -> Recipe:
    """A tiny language model; makes its data."""
    for name, count in (("train", 200), ("dev", 30), ("test", 30)):
        words = [WORDS[place % len(WORDS)] for place in range(count)]
        (folder / f"{name}.txt").write_text(" ".join(words))
    content: dict[str, Any] = {
        "name": "writer",
        "task": "text-generation",
        "base_model": str(base),
        "data": {
            **{name: str(folder / f"{name}.txt") for name in ("train", "dev", "test")},
            "buckets": [16],
            "batch_size": 4,
        },
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"epochs": 2},
        "precision": "float32",
        "edge": {"profiles": []},
    }
    return Recipe.model_validate(content | changes)


def train(recipe: Recipe, **settings: Any) -> Trained:
    task = tasks.create(recipe)
    return trainer.train(task, recipe, task.load_data(), Silent(), **settings)


LORA = {"rank": 4, "targets": ["q_b_proj", "down_proj"], "dropout": 0.2}


def test_an_adapters_training_that_is_stopped_goes_on_and_is_merged(
    base: Path, tmp_path: Path
) -> None:
    recipe = language_recipe(tmp_path, base, lora=LORA)
    whole = train(recipe)
    calls = itertools.count(1)
    runs = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(recipe, folder=runs, stop=lambda: next(calls) == 5)
    resumed = train(recipe, folder=runs)
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-5)
    assert not any(isinstance(layer, Adapted) for layer in resumed.model.submodules)
    ids = tf.constant([[5, 9, 3, 1]])
    inputs = {"input_ids": ids, "attention_mask": tf.ones_like(ids)}
    again = checkpoint.from_pretrained(base)
    adapter.load(again, runs / "adapter")
    np.testing.assert_allclose(resumed.model(inputs).logits, again(inputs).logits, atol=1e-4)


def test_experts_are_balanced_and_seen_in_tensorboard(tmp_path: Path) -> None:
    """Of a model from scratch; XLA, which can't have them, is left out and said so."""
    scratch = {"decoder": "deepseek_v3", "layers": 2, "hidden": 16, "heads": 2, "vocabulary": 300}
    recipe = language_recipe(
        tmp_path,
        tmp_path,
        base_model=None,
        scratch=scratch | {"experts": 4},
        moe={"bias_update_speed": 0.01},
        logging={"every": 2},
        memory={"xla": True},
    )
    trained = train(recipe, folder=tmp_path / "run")
    (shares,) = trained.expert_shares.values()
    assert list(trained.expert_shares) == ["block_2"]
    assert sum(shares) == pytest.approx(1)
    bias = trained.model.model.layers[1].mlp.gate.bias.numpy()
    assert np.abs(bias).max() > 0
    rows: dict[str, list[int]] = {}
    for path in (tmp_path / "run" / "logs").glob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                rows.setdefault(value.tag, []).append(event.step)
    names = ["max_violation", *(f"share/{expert}" for expert in range(4))]
    for name in names:
        assert rows[f"experts/block_2/{name}"] == list(range(2, trained.steps + 1, 2))


def test_a_dense_model_learns_in_half_precision_with_all_that_saves(
    tmp_path: Path, tokenizer_json: bytes
) -> None:
    """Scaled losses, XLA, recomputed blocks, accumulation, and an adapter."""
    folder = Path(shutil.copytree(GOLDEN / "qwen2", tmp_path / "qwen2"))
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    recipe = language_recipe(
        tmp_path,
        folder,
        precision="mixed_float16",
        memory={"xla": True, "gradient_checkpointing": True},
        schedule={"epochs": 4, "micro_batches": 2},
        lora={"rank": 4},
    )
    trained = train(recipe)
    assert trained.losses[-1] < 0.8 * trained.losses[0]


# Another process: the number of a machine's devices is fixed once TensorFlow has started.
_MIRRORED = """
import json, sys
import finetune
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from finetune import recipe, tasks, trainer
from finetune.progress import Silent

parsed = recipe.Recipe.model_validate_json(sys.stdin.read())
task = tasks.create(parsed)
trained = trainer.train(task, parsed, task.load_data(), Silent())
bias = trained.model.model.layers[1].mlp.gate.bias.numpy().tolist()
print(json.dumps([trained.losses, trained.expert_shares["block_2"], bias]))
"""


def test_two_devices_train_balance_and_adapt_as_one(base: Path, tmp_path: Path) -> None:
    settings = {
        "lora": LORA | {"dropout": 0.0},
        "moe": {"bias_update_speed": 0.01},
        "schedule": {"epochs": 1},
    }
    alone = train(language_recipe(tmp_path, base, **settings))
    spread = {"distribution": {"strategy": "mirrored", "devices": ["CPU:0", "CPU:1"]}}
    recipe = language_recipe(tmp_path, base, **settings, **spread)
    done = subprocess.run(
        [sys.executable, "-c", _MIRRORED],
        input=recipe.model_dump_json(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    losses, shares, bias = json.loads(done.stdout.splitlines()[-1])
    assert losses == pytest.approx(alone.losses, rel=1e-4)
    assert shares == pytest.approx(alone.expert_shares["block_2"], abs=0.01)
    router = alone.model.model.layers[1].mlp.gate
    np.testing.assert_allclose(bias, router.bias.numpy(), atol=0.021)  # of a tie, one step
