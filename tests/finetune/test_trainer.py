"""Laws of training: the loss falls, a seed fixes it, and nothing that is not a number gets out."""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import blocks, evaluate, trainer
from finetune.data import service
from finetune.distribution import Distribution
from finetune.dropout import DropoutSeed
from finetune.errors import Interrupted, TrainingError
from finetune.precision import Policy
from finetune.progress import Advance, Silent
from finetune.step import Step
from finetune.tasks.base import TaskData
from finetune.tasks.text_classification import TextClassification
from finetune.trainer import Trained


class Recorded(Silent):
    """Keeps what was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int]] = []
        self.steps: list[tuple[int, str]] = []

    @contextmanager
    def counted(self, title: str, total: int) -> Iterator[Advance]:
        self.shown.append((title, total))

        def advance(count: int = 1, note: str = "") -> None:
            self.steps.append((count, note))

        yield advance


@pytest.fixture(scope="module")
def progress() -> Recorded:
    return Recorded()


@pytest.fixture(scope="module")
def trained(task: TextClassification, data: TaskData, progress: Recorded) -> Trained:
    return trainer.train(task, task.recipe, data, progress)


def short(tiny_recipe: Any, data: TaskData, *overrides: str) -> Trained:
    recipe = tiny_recipe("schedule.epochs=1", *overrides)
    return trainer.train(TextClassification(recipe), recipe, data, Silent())


def test_the_loss_falls_on_a_task_that_can_be_learnt(trained: Trained) -> None:
    assert np.mean(trained.losses[:5]) == pytest.approx(np.log(2), abs=0.05)
    assert np.mean(trained.losses[-5:]) < 0.3


def test_figures_say_how_it_went(trained: Trained, data: TaskData) -> None:
    figures = json.loads(json.dumps(trained.figures()))
    assert "model" not in figures
    assert figures["examples"] == 5 * len(data.train)
    assert figures["steps"] == len(figures["losses"]) > 5 * len(data.train) / 8
    assert figures["skipped_steps"] == 0
    assert figures["examples_per_s"] == pytest.approx(figures["examples"] / figures["seconds"])
    assert figures["policy"] == "float32"


def test_progress_counts_every_example(trained: Trained, progress: Recorded) -> None:
    trainings = [shown for shown in progress.shown if shown[0].startswith("train")]
    assert trainings == [
        (f"train tiny (float32), epoch {epoch} of 5", trained.examples // 5)
        for epoch in range(1, 6)
    ]
    seen = sum(count for count, note in progress.steps if note.startswith("loss"))
    assert seen == trained.examples


def test_the_seed_decides_the_losses(tiny_recipe: Any, short_data: TaskData) -> None:
    first, again, other = (
        short(tiny_recipe, short_data, f"seed={seed}").losses for seed in (0, 0, 1)
    )
    assert len(first) == 2
    assert first == pytest.approx(again, rel=1e-5)
    assert first != pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_float32_weights(
    tiny_recipe: Any, short_data: TaskData, policy: Policy
) -> None:
    trained = short(tiny_recipe, short_data, f"precision={policy}", "head.dropout=0")
    assert trained.policy == policy
    assert {variable.dtype for variable in trained.model.trainable_variables} == {tf.float32}
    # Before the first update all precisions have the same weights.
    assert trained.losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert tf_keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("stop_at", [1, 26, 40])  # of two epochs of 26 batches
def test_a_training_that_is_stopped_and_taken_up_equals_one_that_never_stopped(
    tiny_recipe: Any, data: TaskData, tmp_path: Path, stop_at: int
) -> None:
    """Weights, moments, schedule, data order and dropout masks all go on where they were."""
    recipe = tiny_recipe("schedule.epochs=2", "optimizer.learning_rate=0.003")
    task = TextClassification(recipe)
    whole = trainer.train(task, recipe, data, Silent())
    calls = itertools.count(1)
    with pytest.raises(Interrupted, match=f"stopped after step {stop_at}; run again"):
        trainer.train(
            task, recipe, data, Silent(), folder=tmp_path, stop=lambda: next(calls) == stop_at
        )
    resumed = trainer.train(task, recipe, data, Silent(), folder=tmp_path)
    assert resumed.losses == pytest.approx(whole.losses, rel=0, abs=1e-6)
    assert resumed.dev_scores == whole.dev_scores
    assert resumed.examples == whole.examples


def test_the_best_epochs_weights_are_kept(tiny_recipe: Any, data: TaskData) -> None:
    """A rate that is far too high at the end: what comes out is what was good before."""
    recipe = tiny_recipe("schedule.epochs=3", "schedule.kind=constant", "optimizer.clip_norm=null")
    task = TextClassification(recipe)
    trained = trainer.train(task, recipe, data, Silent())
    logits = evaluate.predict(task, trained.model, data.dev, progress=Silent(), title="dev")
    accuracy = float((logits.argmax(-1) == data.dev.labels).mean())
    assert accuracy == max(trained.dev_scores) == trained.dev_scores[trained.best_epoch - 1]


def test_a_head_can_be_trained_alone(tiny_recipe: Any, short_data: TaskData) -> None:
    recipe = tiny_recipe("schedule.epochs=1", "head.alone=true", "memory.xla=true")
    task = TextClassification(recipe)
    before = task.build_model()
    model = trainer.train(task, recipe, short_data, Silent()).model
    for now, then in zip(model.layers, before.layers, strict=True):
        same = [
            np.array_equal(one.numpy(), other.numpy())
            for one, other in zip(now.variables, then.variables, strict=True)
        ]
        assert not any(same) if now is model.classifier else all(same)
    assert blocks.members(model) == {"head": [0, 1, 2, 3]}


def test_training_stops_when_patience_is_over(tiny_recipe: Any, data: TaskData) -> None:
    recipe = tiny_recipe(
        "schedule.epochs=9", "schedule.patience=1", "optimizer.learning_rate=1e-12"
    )
    trained = trainer.train(TextClassification(recipe), recipe, data, Silent())
    assert len(trained.dev_scores) == 2  # the second was no better than the first
    assert trained.best_epoch == 1


def test_tensorboard_and_a_page_see_the_training(
    tiny_recipe: Any, data: TaskData, tmp_path: Path
) -> None:
    recipe = tiny_recipe("schedule.epochs=2", "logging.every=5", "logging.histograms=true")
    trained = trainer.train(TextClassification(recipe), recipe, data, Silent(), folder=tmp_path)
    rows: dict[str, list[int]] = {}
    for path in (tmp_path / "logs").glob("events.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                rows.setdefault(value.tag, []).append(event.step)
    every = list(range(5, trained.steps + 1, 5))
    told = [json.loads(line) for line in (tmp_path / "logs" / "curve.jsonl").open()]
    assert [row["step"] for row in told if "loss" in row] == every
    assert [row["dev_score"] for row in told if "dev_score" in row] == trained.dev_scores
    for name in (
        "train/loss",
        "train/learning_rate",
        "gradient/global_norm",
        "gradient/clip_ratio",
    ):
        assert rows[name] == every
    assert len(rows["dev/score"]) == 2
    for part in ("embeddings", "block_1", "head"):
        assert rows[f"gradient/norm/{part}"] == every
    for kind in ("weights", "gradients"):
        steps = {tuple(rows[name]) for name in rows if name.startswith(f"{kind}/")}
        assert [len(each) for each in steps] == [2]  # once an epoch, of every variable


def test_a_batch_that_can_not_be_split_is_refused(tiny_recipe: Any, short_data: TaskData) -> None:
    with pytest.raises(TrainingError, match=r"data\.batch_size: 8 is no multiple of 3"):
        short(tiny_recipe, short_data, "schedule.micro_batches=3")


def test_the_gradients_that_are_drawn_are_those_of_the_update(
    task: TextClassification, short_data: TaskData
) -> None:
    """Plain descent with a rate of 1 moves the weights by just them."""
    model = task.build_model()
    optimizer = tf_keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)
    step = Step(task, model, optimizer, DropoutSeed(model, 0), Distribution(), clip_norm=None)
    batch = next(iter(task.training_batches(short_data, 0, 1)))
    gradients = [gradient.numpy() for gradient in step.gradients(batch, 3)]
    before = [variable.numpy() for variable in model.trainable_variables]
    step(batch, 3)
    for gradient, then, now in zip(gradients, before, model.trainable_variables, strict=True):
        np.testing.assert_allclose(then - now.numpy(), gradient, atol=1e-5)


def test_the_steps_that_the_recipe_names_are_profiled(
    tiny_recipe: Any, short_data: TaskData, tmp_path: Path
) -> None:
    for last in (3, 99):  # the second: training ends first
        recipe = tiny_recipe("schedule.epochs=2", f"logging.profile=[2, {last}]")
        folder = tmp_path / str(last)
        trainer.train(TextClassification(recipe), recipe, short_data, Silent(), folder=folder)
        (profile,) = folder.glob("logs/plugins/profile/*/*.xplane.pb")
        assert profile.stat().st_size > 1000


def test_a_loss_that_is_not_a_number_stops_training(tiny_recipe: Any, short_data: TaskData) -> None:
    message = (
        r"loss is (nan|inf) at step 1 .*, made of .*train\.jsonl: example \d+ \('.*'\); "
        r".*; and 5 more\. Look at these examples; lower optimizer\."
    )
    with pytest.raises(TrainingError, match=message):
        short(tiny_recipe, short_data, "optimizer.learning_rate=1e38")


def test_a_loss_that_blows_up_keeps_the_last_good_state(
    tiny_recipe: Any, data: TaskData, tmp_path: Path
) -> None:
    recipe = tiny_recipe("optimizer.learning_rate=30", "optimizer.clip_norm=null")
    task = TextClassification(recipe)
    calls = itertools.count(1)
    with pytest.raises(Interrupted):
        trainer.train(task, recipe, data, Silent(), folder=tmp_path, stop=lambda: next(calls) == 2)
    with pytest.raises(TrainingError, match=r"times that of answering .*after step 2, is kept"):
        trainer.train(task, recipe, data, Silent(), folder=tmp_path)
    figures = json.loads((tmp_path / "state" / "trained.json").read_text())
    assert len(figures["losses"]) == 2
    assert np.isfinite(figures["losses"]).all()


def test_examples_may_come_from_a_tf_data_service(tiny_recipe: Any, data: TaskData) -> None:
    """In any order, but each once an epoch, in as many batches."""
    with service.local(2) as address:
        recipe = tiny_recipe("schedule.epochs=2", f"data.service='{address}'")
        task = TextClassification(recipe)
        for epoch in range(2):
            batches = list(task.training_batches(data, epoch, 1))
            places = [int(place) for batch in batches for place in batch["places"]]
            assert sorted(places) == list(range(len(data.train)))
            assert len(batches) == task.steps(data, epoch)
        trained = trainer.train(task, recipe, data, Silent())
    assert trained.examples == 2 * len(data.train)
    assert np.isfinite(trained.losses).all()  # how well it learns, the order decides


def test_resume_is_refused_where_there_is_nothing_to_take_up(
    tiny_recipe: Any, data: TaskData, tmp_path: Path
) -> None:
    recipe = tiny_recipe("checkpoint.resume=true")
    with pytest.raises(TrainingError, match=r"--resume: there is no unfinished training .* leave"):
        trainer.train(TextClassification(recipe), recipe, data, Silent(), folder=tmp_path)


def test_sigterm_saves_the_state_and_the_same_command_goes_on(
    tiny_recipe: Any, tmp_path: Path
) -> None:
    """Through the command line, as a preempted machine would meet it."""
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny_recipe("schedule.epochs=200", "edge.profiles=[]").to_yaml())
    command = [sys.executable, "-m", "tensorseek.cli", "train", str(path)]
    command += ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as child:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "runs").glob("tiny/*/best/weights.index")):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert re.search(r"tensorseek: stopped after step \d+; run again", errors)
    assert not (tmp_path / "models" / "tiny").exists()
    (state,) = (tmp_path / "runs").glob("tiny/*/state/trained.json")
    assert len(json.loads(state.read_text())["losses"]) >= 26
