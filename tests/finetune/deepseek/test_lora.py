"""Laws of low-rank adaptation: it begins as the base, trains nothing else, and can be merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import precision, recipe, recompute
from finetune.deepseek import adapter, checkpoint
from finetune.deepseek.lora import Adapted, Adapters
from finetune.dropout import DropoutSeed
from finetune.errors import ModelError

GOLDEN = Path(__file__).parent / "golden"
IDS = tf.constant(np.random.default_rng(0).integers(1, 61, [3, 9]), tf.int32)
EVERYWHERE = {
    "qwen2": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    "v3": ("q_a_proj", "q_b_proj", "kv_b_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}


def settings(*targets: str, dropout: float = 0.0) -> recipe.Lora:
    return recipe.Lora(rank=4, alpha=8.0, dropout=dropout, targets=targets)


def ask(model: Any, ids: Any = IDS) -> Any:
    return model({"input_ids": ids, "attention_mask": tf.ones_like(ids)}).logits.numpy()


def trained(adapters: Adapters) -> None:
    """Gives the paths something to say."""
    for seed, path in enumerate(adapters):
        path.lora_b.assign(tf.random.stateless_normal(path.lora_b.shape, [seed, 1], stddev=0.1))


@pytest.fixture(params=["qwen2", "v3"])
def adapted(request: pytest.FixtureRequest) -> tuple[Any, Adapters]:
    model = checkpoint.from_pretrained(GOLDEN / request.param)
    return model, Adapters(model, settings(*EVERYWHERE[request.param]))


def test_it_begins_as_the_base(adapted: tuple[Any, Adapters]) -> None:
    model, _ = adapted
    base = checkpoint.from_pretrained(GOLDEN / model.config.family.replace("deepseek_", ""))
    np.testing.assert_array_equal(ask(model), ask(base))


def test_nothing_but_the_paths_is_trained(adapted: tuple[Any, Adapters]) -> None:
    model, adapters = adapted
    paths = {id(variable) for path in adapters for variable in (path.lora_a, path.lora_b)}
    assert {id(variable) for variable in model.trainable_variables} == paths
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(
            model({"input_ids": IDS, "attention_mask": tf.ones_like(IDS)}).logits ** 2
        )
    watched = tape.gradient(loss, [path.lora_b for path in adapters])
    assert all(float(tf.norm(tf.convert_to_tensor(each))) > 0 for each in watched)


def test_merged_equals_unmerged_and_can_be_undone(adapted: tuple[Any, Adapters]) -> None:
    model, adapters = adapted
    base = ask(model)
    trained(adapters)
    unmerged = ask(model)
    assert np.abs(unmerged - base).max() > 0.1
    adapters.merge()
    assert not any(isinstance(layer, Adapted) for layer in model.submodules)
    np.testing.assert_allclose(ask(model), unmerged, atol=1e-4)
    adapters.unmerge()
    np.testing.assert_allclose(ask(model), unmerged, atol=1e-4)


def test_a_few_tokens_are_answered_as_many(adapted: tuple[Any, Adapters]) -> None:
    """The experts of a few tokens are computed another way."""
    model, adapters = adapted
    trained(adapters)
    for tokens in (1, 2, 5):
        np.testing.assert_allclose(ask(model, IDS[:1, :tokens]), ask(model)[:1, :tokens], atol=1e-4)


def test_a_saved_adapter_is_the_same_when_loaded(
    adapted: tuple[Any, Adapters], tmp_path: Path
) -> None:
    model, adapters = adapted
    trained(adapters)
    for _ in range(2):  # the second replaces the first
        adapter.save(model, adapters, "base", tmp_path / "adapter")
    again = checkpoint.from_pretrained(GOLDEN / model.config.family.replace("deepseek_", ""))
    loaded = adapter.load(again, tmp_path / "adapter")
    np.testing.assert_array_equal(ask(again), ask(model))
    assert loaded.settings.rank == 4
    assert loaded.targets == adapters.targets
    other = checkpoint.from_pretrained(GOLDEN / "v2-lite")
    with pytest.raises(ModelError, match=r"adapter|lora\.targets"):
        adapter.load(other, tmp_path / "adapter")


def test_by_default_it_adapts_all_of_attention() -> None:
    adapters = Adapters(checkpoint.from_pretrained(GOLDEN / "v2-lite"), settings())
    assert adapters.targets == ["kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_proj"]


def test_a_target_that_is_not_there_is_named(tiny_base: Any) -> None:
    model = checkpoint.from_pretrained(GOLDEN / "v3")
    with pytest.raises(
        ModelError, match=r"lora\.targets: 'v_proj' is no linear layer .* kv_b_proj"
    ):
        Adapters(model, settings("v_proj"))
    with pytest.raises(ModelError, match="lora: Model is no model of the DeepSeek family"):
        Adapters(tf.keras.Model(), settings())


def gradients(variant: str, *, checkpoints: bool, policy: precision.Policy = "float32") -> Any:
    tf.keras.utils.set_random_seed(0)
    with precision.scope(policy):
        model = checkpoint.from_pretrained(GOLDEN / variant)
        adapters = Adapters(model, settings(*EVERYWHERE[variant], dropout=0.3))
    trained(adapters)
    DropoutSeed(model, 0).set(3)
    if checkpoints:
        recompute.checkpoint(model)

    @tf.function
    def step(ids: Any) -> Any:
        inputs = {"input_ids": ids, "attention_mask": tf.ones_like(ids)}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.softmax(model(inputs, training=True).logits) ** 2)
        found = tape.gradient(loss, model.trainable_variables)
        return [tf.convert_to_tensor(each) for each in found]

    return [each.numpy() for each in step(IDS)]


@pytest.mark.parametrize("variant", ["qwen2", "v3"])
def test_recomputed_blocks_give_the_same_gradients(variant: str) -> None:
    """With dropout in the paths."""
    plain = gradients(variant, checkpoints=False)
    for one, again in zip(plain, gradients(variant, checkpoints=True), strict=True):
        np.testing.assert_allclose(again, one, rtol=1e-3, atol=1e-6)


def test_paths_learn_in_half_precision() -> None:
    found = gradients("v3", checkpoints=True, policy="mixed_bfloat16")
    assert {each.dtype for each in found} == {np.dtype(np.float32)}
    assert all(np.isfinite(each).all() for each in found)
