"""Laws: checkpointing changes no gradient and no answer, and computes again what it must only."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import blocks, precision, recompute
from finetune.dropout import DropoutSeed
from finetune.errors import ModelError

BLOCKS = 2
IDS = tf.constant(np.random.default_rng(0).integers(0, 100, [4, 15]), tf.int32)


class Stack(tf_keras.Model):  # type: ignore[misc]
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.first = tf_keras.layers.Dense(3)
        self.blocks = [tf_keras.layers.Dense(3) for _ in range(depth)]

    def call(self, inputs: Any, training: bool = False) -> Any:
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden


def encoder(*, checkpointing: bool, policy: precision.Policy = "float32") -> Any:
    """A small BERT with its own dropout of 10%."""
    from transformers import BertConfig, TFBertForSequenceClassification

    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=BLOCKS,
        num_attention_heads=2,
        intermediate_size=64,
    )
    tf_keras.utils.set_random_seed(0)
    with precision.scope(policy):
        model = TFBertForSequenceClassification(config)
        model(IDS)
    DropoutSeed(model, 0).set(5)
    if checkpointing:
        assert recompute.checkpoint(model) == BLOCKS
    return model


def gradients_of(model: Any, **settings: Any) -> Any:
    def gradients(ids: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            logits = tf.cast(model(ids, training=True).logits, tf.float32)
            loss = tf.reduce_sum(logits**2)
        found = tape.gradient(loss, model.trainable_variables)
        return [tf.convert_to_tensor(gradient) for gradient in found]

    return tf.function(gradients, **settings)


ANY_LENGTH = {"input_signature": [tf.TensorSpec([None, None], tf.int32)]}


@pytest.mark.parametrize("settings", [ANY_LENGTH, {"jit_compile": True}])
def test_recomputed_blocks_give_the_gradients_of_kept_ones(settings: dict[str, Any]) -> None:
    """With dropout: the masks must be the same in both passes."""
    kept, recomputed = (
        gradients_of(encoder(checkpointing=checkpointing), **settings)(IDS)
        for checkpointing in (False, True)
    )
    for one, other in zip(kept, recomputed, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-8)


def test_so_they_do_in_mixed_precision() -> None:
    kept, recomputed = (
        gradients_of(encoder(checkpointing=checkpointing, policy="mixed_bfloat16"))(IDS)
        for checkpointing in (False, True)
    )
    for one, other in zip(kept, recomputed, strict=True):
        np.testing.assert_allclose(other, one, rtol=0.02, atol=1e-6)


def test_the_last_block_and_narrowing_products_are_not_computed_again() -> None:
    """A block's dense layers are query, key, value, output, one that widens, one that narrows."""

    def operations(*, checkpointing: bool) -> Counter[str]:
        gradients = gradients_of(encoder(checkpointing=checkpointing))
        graph = gradients.get_concrete_function(IDS).graph
        return Counter(operation.type for operation in graph.get_operations())

    extra = operations(checkpointing=True) - operations(checkpointing=False)
    assert extra["MatMul"] == 5 * (BLOCKS - 1)
    assert extra["Softmax"] == BLOCKS - 1


def test_the_blocks_are_found_in_order() -> None:
    model = Stack(4)
    model(tf.ones([1, 2]))
    assert blocks.find(model) == list(model.blocks)
    assert recompute.checkpoint(model) == 4


def test_a_model_without_blocks_is_refused_with_the_key_to_change() -> None:
    model = Stack(0)
    model(tf.ones([1, 2]))
    with pytest.raises(ModelError, match=r"memory\.gradient_checkpointing: Stack has no list"):
        recompute.checkpoint(model)


def test_answers_outside_training_stay_as_they_were() -> None:
    model = Stack(2)
    before = model(tf.ones([1, 2])).numpy()
    recompute.checkpoint(model)
    np.testing.assert_array_equal(model(tf.ones([1, 2])).numpy(), before)
