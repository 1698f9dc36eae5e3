"""Laws of the decoder: no token sees a later one or padding; experts answer as one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import recompute
from finetune.deepseek import checkpoint
from finetune.deepseek.experts import MixtureOfExperts

GOLDEN = Path(__file__).parent / "golden"
IDS = np.asarray([[7, 3, 50, 11, 9, 2, 30]], np.int32)


@pytest.fixture(scope="module", params=["qwen2", "v2", "v3-yarn"])
def model(request: pytest.FixtureRequest) -> Any:
    return checkpoint.from_pretrained(GOLDEN / request.param)


def ask(model: Any, ids: Any, mask: Any = None) -> Any:
    mask = np.ones_like(ids) if mask is None else mask
    inputs = {"input_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}
    return model(inputs).logits.numpy()


def test_a_token_depends_on_none_after_it(model: Any) -> None:
    changed = IDS.copy()
    changed[:, 4:] = 1
    np.testing.assert_allclose(ask(model, changed)[:, :4], ask(model, IDS)[:, :4], atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(model: Any, side: str) -> None:
    widths = ((0, 0), (3, 0) if side == "left" else (0, 3))
    ids, mask = (np.pad(each, widths) for each in (IDS, np.ones_like(IDS)))
    found = ask(model, ids, mask)[mask.astype(bool)]
    np.testing.assert_allclose(found, ask(model, IDS)[0], atol=2e-5)


def test_a_text_is_answered_alike_alone_and_in_a_batch(model: Any) -> None:
    batch = np.concatenate([IDS, IDS[:, ::-1], np.ones_like(IDS)])
    np.testing.assert_allclose(ask(model, batch)[:1], ask(model, IDS), atol=2e-5)


def gradients(model: Any) -> list[Any]:
    """As the trainer has them: in a graph."""

    @tf.function
    def step(ids: Any) -> Any:
        inputs = {"input_ids": ids, "attention_mask": tf.ones_like(ids)}
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.softmax(model(inputs, training=True).logits) ** 2)
        found = tape.gradient(loss, model.trainable_variables)
        return [tf.convert_to_tensor(each) for each in found]

    return [each.numpy() for each in step(tf.constant(IDS))]


def test_recomputed_blocks_give_the_same_gradients() -> None:
    found = []
    for checkpoints in (False, True):
        model = checkpoint.from_pretrained(GOLDEN / "v3")
        if checkpoints:
            assert recompute.checkpoint(model) == 2
        found.append(gradients(model))
    for plain, again in zip(*found, strict=True):
        np.testing.assert_allclose(again, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["v2", "v3"])
def test_grouped_experts_answer_as_one_by_one(variant: str) -> None:
    """No token is dropped, however uneven the load is, and however few they are."""
    model = checkpoint.from_pretrained(GOLDEN / variant)
    layer: MixtureOfExperts = model.model.layers[1].mlp
    generator = np.random.default_rng(0)
    many, two = generator.normal(size=(19, 32)), generator.normal(size=(2, 32))
    for tokens in (many, np.ones((5, 32)), np.ones((40, 32)), two):  # of ones: all go alike
        x = tf.constant(tokens, tf.float32)
        chosen, shares = layer.gate(x)
        expected = np.zeros((len(tokens), 32))
        for row in range(len(tokens)):
            for expert, share in zip(chosen[row].numpy(), shares[row].numpy(), strict=True):
                gate = tf.nn.silu(x[row : row + 1] @ layer.gate_proj.kernel[expert])
                hidden = gate * (x[row : row + 1] @ layer.up_proj.kernel[expert])
                expected[row] += share * (hidden @ layer.down_proj.kernel[expert]).numpy()[0]
        found = layer._mix(x, chosen, shares)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_experts_outside_of_the_best_groups_are_not_chosen() -> None:
    model = checkpoint.from_pretrained(GOLDEN / "v3")  # 8 experts in 4 groups, of which 2
    gate = model.model.layers[1].mlp.gate
    chosen, shares = gate(tf.constant(np.random.default_rng(1).normal(size=(200, 32)), tf.float32))
    assert max(len(set(row // 2)) for row in chosen.numpy()) <= 2
    np.testing.assert_allclose(shares.numpy().sum(1), 2.5, rtol=1e-5)
    assert gate.bias is not None
    assert all(gate.bias is not variable for variable in model.trainable_variables)


def test_a_recomputed_block_chooses_no_expert_again() -> None:
    """Else a near-tie could end otherwise in the second pass."""
    model = checkpoint.from_pretrained(GOLDEN / "v3", ("a", "b"))
    blocks = model.model.layers
    blocks.append(blocks.pop(0))  # the last block is not recomputed
    recompute.checkpoint(model)
    router = blocks[0].mlp.gate
    choices = []
    choose = router.choose
    router.choose = lambda scores: choices.append(0) or choose(scores)
    gradients(model)
    assert len(choices) == 1
