"""Laws of what is visible: what came before in the same text, and nothing of packed neighbours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import checkpoint, visible

GOLDEN = Path(__file__).parent / "golden"
TEXTS = ([7, 3, 50, 11], [9, 2], [30, 8, 8, 41, 5])


def row(*mask: int) -> Any:
    return tf.constant([mask], tf.int32)


@pytest.mark.parametrize("longest", [2, 1024])  # searched, and by the table
def test_positions_count_from_the_first_token_of_each_text(longest: int) -> None:
    for mask, expected in (
        ([1, 1, 1], [0, 1, 2]),
        ([0, 0, 1, 1], [0, 0, 0, 1]),
        ([1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 1, 0]),
        ([0, 1, 2, 2, 0], [0, 0, 0, 1, 0]),
        ([0, 0, 0], [0, 0, 0]),
    ):
        found = visible.positions(tf.constant([mask, mask], tf.int32), longest)
        assert found.numpy().tolist() == [expected, expected]


def test_each_token_reads_its_own_text_up_to_itself() -> None:
    found = visible.causal(row(1, 1, 2, 2, 0)).numpy()[0].astype(int)
    assert found.tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def loss(model: Any, ids: Any, mask: Any) -> Any:
    """Summed over every token but the first of its text."""
    logits = model({"input_ids": ids, "attention_mask": mask}, training=True).logits
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(ids[:, 1:], logits[:, :-1])
    follows = (mask[:, 1:] == mask[:, :-1]) & (mask[:, 1:] > 0)
    return tf.reduce_sum(losses * tf.cast(follows, tf.float32))


@pytest.mark.parametrize("variant", ["llama3-rope", "v2", "v3-yarn"])
def test_packed_texts_have_the_loss_and_gradients_of_separate_ones(variant: str) -> None:
    model = checkpoint.from_pretrained(GOLDEN / variant)
    packed = tf.constant([[*(token for text in TEXTS for token in text), 0]], tf.int32)
    numbers = [place for place, text in enumerate(TEXTS, 1) for _ in text]
    with tf.GradientTape() as tape:
        together = loss(model, packed, tf.constant([[*numbers, 0]], tf.int32))
    gradients = tape.gradient(together, model.trainable_variables)
    with tf.GradientTape() as tape:
        alone = tf.add_n(
            [loss(model, tf.constant([text]), tf.ones([1, len(text)], tf.int32)) for text in TEXTS]
        )
    expected = tape.gradient(alone, model.trainable_variables)
    assert float(together) == pytest.approx(float(alone), rel=1e-5)
    for one, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(one), tf.convert_to_tensor(other), rtol=1e-3, atol=1e-4
        )
