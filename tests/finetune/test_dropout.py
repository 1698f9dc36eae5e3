"""Law: a mask depends on seed, step and layer, and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune.dropout import DropoutSeed


class Two(tf_keras.Model):  # type: ignore[misc]
    def __init__(self, one: Any = None, other: Any = None) -> None:
        super().__init__()
        self.one = one or tf_keras.layers.Dropout(0.25)
        self.other = other or tf_keras.layers.Dropout(0.25)

    def call(self, inputs: Any, training: bool = False) -> Any:
        return tf.stack(
            [self.one(inputs, training=training), self.other(inputs, training=training)]
        )


ONES = tf.ones([40, 50])


def masks(seed: int, step: int, graph: bool = False, model: Any = None, inputs: Any = ONES) -> Any:
    model = model or Two()
    dropout = DropoutSeed(model, seed)
    dropout.set(step)
    call = tf.function(model) if graph else model
    return call(inputs, training=True).numpy()


def paths() -> Any:
    """Stochastic depth as two of transformers' models have it."""
    from transformers.models.convnext.modeling_tf_convnext import TFConvNextDropPath
    from transformers.models.swin.modeling_tf_swin import TFSwinDropPath

    return Two(TFConvNextDropPath(0.25), TFSwinDropPath(0.25))


def stable() -> Any:
    from transformers.models.deberta_v2.modeling_tf_deberta_v2 import TFDebertaV2StableDropout

    return Two(TFDebertaV2StableDropout(0.25))


@pytest.mark.parametrize("make", [Two, paths, stable])
def test_the_same_step_has_the_same_masks_however_often_it_is_computed(make: Any) -> None:
    first = masks(1, 7, model=make())
    np.testing.assert_array_equal(masks(1, 7, model=make()), first)
    np.testing.assert_array_equal(masks(1, 7, graph=True, model=make()), first)


@pytest.mark.parametrize("make", [Two, paths, stable])
@pytest.mark.parametrize(("seed", "step"), [(1, 8), (2, 7)])
def test_another_step_or_seed_has_others(make: Any, seed: int, step: int) -> None:
    assert (masks(seed, step, model=make()) != masks(1, 7, model=make())).mean() > 0.2


def test_layers_have_masks_of_their_own() -> None:
    one, other = masks(1, 7)
    assert (one != other).mean() > 0.2


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_the_rate_is_kept_and_so_is_the_mean(rate: float) -> None:
    values = masks(3, 0, model=Two(tf_keras.layers.Dropout(rate)), inputs=tf.ones([300, 1001]))[0]
    dropped = round(rate * 65536) / 65536
    assert set(np.unique(values)) == {0.0, np.float32(1 / (1 - dropped))}
    # Of 300,300 draws the share's standard deviation is at most 0.0009.
    assert (values == 0).mean() == pytest.approx(rate, abs=0.004)
    assert values.mean() == pytest.approx(1.0, abs=0.008)


def test_elements_that_share_a_random_word_are_dropped_independently() -> None:
    gone = masks(3, 0, inputs=tf.ones([300, 1000]))[0].reshape(-1, 2) == 0
    assert gone.all(axis=1).mean() == pytest.approx(0.25**2, abs=0.004)


def test_stochastic_depth_drops_whole_rows() -> None:
    values = masks(3, 0, model=paths(), inputs=tf.ones([4000, 2, 3]))
    assert (values == values[:, :, :1, :1]).all()
    assert (values[:, :, 0, 0] == 0).mean(axis=1) == pytest.approx(0.25, abs=0.03)
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.75)}


def test_a_gradient_passes_where_the_mask_lets_through() -> None:
    model = Two()
    DropoutSeed(model, 0).set(5)
    with tf.GradientTape() as tape:
        tape.watch(ONES)
        values = model.one(ONES, training=True)
    np.testing.assert_array_equal(tape.gradient(values, ONES), values)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays_half_precision(dtype: str) -> None:
    layer = tf_keras.layers.Dropout(0.25, dtype=dtype)
    values = masks(3, 0, model=Two(layer, layer), inputs=tf.ones([40, 50], dtype))
    assert values.dtype == tf.as_dtype(dtype).as_numpy_dtype
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("make", [Two, paths, stable])
def test_nothing_is_dropped_outside_training(make: Any) -> None:
    model = make()
    DropoutSeed(model, 0)
    np.testing.assert_array_equal(model(ONES), np.ones([2, 40, 50]))
