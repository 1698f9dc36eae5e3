"""Laws of balance: what is counted is each real choice, once; the bias moves towards evenness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import recompute
from finetune.deepseek import checkpoint
from finetune.deepseek.balance import Balance
from finetune.distribution import Distribution
from finetune.dropout import DropoutSeed
from finetune.errors import ModelError
from finetune.step import Step
from finetune.tasks.text_generation import TextGeneration

GOLDEN = Path(__file__).parent / "golden"
SPEED = 0.01


class Modelling(TextGeneration):
    """A language model's loss, without a recipe."""

    def __init__(self) -> None:
        pass


def batch(rows: int = 4) -> dict[str, Any]:
    """Some of it padding, and a last row that only fills."""
    ids = np.random.default_rng(0).integers(1, 61, [rows, 8]).astype(np.int32)
    mask = np.ones_like(ids)
    mask[0, 5:] = 0
    weights = np.asarray([1.0] * (rows - 1) + [0.0], np.float32)
    arrays = {"input_ids": ids, "attention_mask": mask, "weights": weights}
    return {name: tf.constant(each) for name, each in arrays.items()}


def counted(model: Any, inputs: dict[str, Any]) -> Any:
    """The load of each expert, token by token."""
    router = model.model.layers[1].mlp.gate
    seen = []
    choose = router.choose
    router.choose = lambda scores: seen.append(choose(scores)) or seen[-1]
    model(inputs)
    router.choose = choose
    real = (inputs["attention_mask"].numpy() * inputs["weights"].numpy()[:, None]).ravel()
    load = np.zeros(8)
    for row, weight in zip(seen[0].numpy(), real, strict=True):
        load[row] += weight
    return load


def stepped(**settings: Any) -> tuple[Any, Any, Any]:
    """The model before its step, what the step said, and by how much it moved the bias."""
    recomputes = settings.pop("recomputes", False)
    model = checkpoint.from_pretrained(GOLDEN / "v3")
    before = model.model.layers[1].mlp.gate.bias.numpy()
    expected = counted(model, batch())
    if recomputes:
        assert recompute.checkpoint(model) == 2
    optimizer = tf_keras.optimizers.SGD(0.0)
    optimizer.build(model.trainable_variables)
    step = Step(
        Modelling(),
        model,
        optimizer,
        DropoutSeed(model, 0),
        Distribution(),
        clip_norm=None,
        **settings,
    )
    outcome = step(batch(), 0)
    return expected, outcome, model.model.layers[1].mlp.gate.bias.numpy() - before


@pytest.mark.parametrize("settings", [{}, {"micro_batches": 2}, {"recomputes": True}])
def test_each_real_choice_counts_once_and_evens_the_load(settings: dict[str, Any]) -> None:
    load, outcome, moved = stepped(bias_update_speed=SPEED, **settings)
    assert load.sum() == 21 * 3  # tokens that are not padding, each with three experts
    assert list(outcome.expert_shares) == ["block_2"]
    np.testing.assert_allclose(outcome.expert_shares["block_2"], load / load.sum(), rtol=1e-6)
    np.testing.assert_allclose(moved, SPEED * np.sign(load.mean() - load), atol=1e-6)


def test_fine_tuning_leaves_the_bias_alone() -> None:
    _, outcome, moved = stepped()
    assert not moved.any()
    assert float(tf.reduce_sum(outcome.expert_shares["block_2"])) == pytest.approx(1)


def test_the_load_becomes_even() -> None:
    """Of a router that had a favourite."""
    model = checkpoint.from_pretrained(GOLDEN / "v3")
    router = model.model.layers[1].mlp.gate
    router.bias.assign(tf.one_hot(3, 8))
    balance = Balance(model, 0.05)
    inputs = batch(40)
    violations = []
    for _ in range(60):
        with balance.observed():
            model(inputs)
        (load,) = balance.loads(inputs)
        violations.append(float(tf.reduce_max(load) / tf.reduce_mean(load)) - 1)
        balance.update([load])
    assert violations[0] > 1.5
    assert max(violations[-10:]) < 0.6


def test_a_model_without_a_bias_has_none_to_update() -> None:
    for variant in ("v2", "qwen2"):
        model = checkpoint.from_pretrained(GOLDEN / variant)
        Balance(model)
        with pytest.raises(ModelError, match=r"moe\.bias_update_speed: CausalLM has no router"):
            Balance(model, SPEED)
