"""Law: a classifier over every variant has the loss and the gradients that PyTorch finds.

`make_training_golden.py` writes, of each gradient, its norm and a few values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import checkpoint, weights

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = ("llama", "llama3-rope", "qwen2", "v2-lite", "v2", "v3", "v3-yarn")
LABELS = ("a", "b", "c")


@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradients_are_the_references(variant: str) -> None:
    expected = np.load(GOLDEN / variant / "training.npz")
    known = np.load(GOLDEN / variant / "golden.npz")
    model = checkpoint.from_pretrained(GOLDEN / variant, LABELS)
    model.score.kernel.assign(expected["score"].T)
    inputs = {name: tf.constant(known[name]) for name in ("input_ids", "attention_mask")}

    @tf.function
    def step() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            logits = model(inputs, training=True).logits
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(3), logits)
            loss = tf.reduce_mean(losses)
        found = tape.gradient(loss, model.trainable_variables)
        return loss, [tf.convert_to_tensor(each) for each in found]

    loss, gradients = step()
    assert float(loss) == pytest.approx(float(expected["loss"]), abs=1e-4)
    by_variable = {
        id(variable): tf.Variable(gradient)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
    }
    compared = 0
    for place in weights.places(model):
        if id(place.variable) not in by_variable:  # of the balance of experts: no gradient
            continue
        own = weights.Place(
            name=place.name,
            variable=by_variable[id(place.variable)],
            turned=place.turned,
            expert=place.expert,
        )
        found = own.value().ravel()
        values = expected[f"values {place.name}"]
        np.testing.assert_allclose(found[:: -(-found.size // 40)], values, atol=1e-4)
        norm = float(expected[f"norm {place.name}"])
        assert np.linalg.norm(found) == pytest.approx(norm, rel=1e-3, abs=1e-4), place.name
        compared += 1
    assert compared == sum(name.startswith("norm") for name in expected)
