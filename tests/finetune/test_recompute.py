"""Law: checkpointing finds a model's blocks and changes nothing outside training.

That recomputed gradients equal kept ones is a law of `test_step`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune import blocks, recompute
from finetune.errors import ModelError


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
