"""Law: a mask depends on seed, step and layer, and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune.dropout import DropoutSeed


class Two(tf_keras.Model):  # type: ignore[misc]
    def __init__(self, rate: float = 0.25) -> None:
        super().__init__()
        self.one = tf_keras.layers.Dropout(rate)
        self.other = tf_keras.layers.Dropout(rate)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return tf.stack(
            [self.one(inputs, training=training), self.other(inputs, training=training)]
        )


ONES = tf.ones([40, 50])


def masks(seed: int, step: int, graph: bool = False) -> Any:
    model = Two()
    dropout = DropoutSeed(model, seed)
    dropout.set(step)
    call = tf.function(model) if graph else model
    return call(ONES, training=True).numpy()


def test_the_same_step_has_the_same_masks_however_often_it_is_computed() -> None:
    np.testing.assert_array_equal(masks(1, 7), masks(1, 7))
    np.testing.assert_array_equal(masks(1, 7), masks(1, 7, graph=True))


@pytest.mark.parametrize(("seed", "step"), [(1, 8), (2, 7)])
def test_another_step_or_seed_has_others(seed: int, step: int) -> None:
    assert (masks(seed, step) != masks(1, 7)).mean() > 0.2


def test_layers_have_masks_of_their_own() -> None:
    one, other = masks(1, 7)
    assert (one != other).mean() > 0.2


def test_the_rate_is_kept_and_so_is_the_mean() -> None:
    values = masks(3, 0)
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.02)


def test_nothing_is_dropped_outside_training() -> None:
    model = Two()
    DropoutSeed(model, 0)
    np.testing.assert_array_equal(model(ONES), np.ones([2, 40, 50]))
