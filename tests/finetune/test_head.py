"""Laws of the head: float32 logits in any precision, dropout only in training, fixed by a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import precision, recipe
from finetune.head import ClassificationHead
from finetune.precision import Policy

FEATURES, LABELS = 16, 3


def head(policy: Policy = "float32", seed: int = 0, **settings: Any) -> ClassificationHead:
    with precision.scope(policy):
        return ClassificationHead(recipe.Head(**settings), LABELS, FEATURES, seed)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_though_the_dense_layer_is_not(policy: Policy) -> None:
    layer = head(policy)
    logits = layer(tf.ones([5, FEATURES], layer.compute_dtype))
    assert (logits.shape, logits.dtype) == ((5, LABELS), tf.float32)
    assert layer.dense.compute_dtype == layer.compute_dtype
    assert {variable.dtype for variable in layer.variables} == {tf.float32}


@pytest.mark.parametrize(("hidden", "units"), [(None, FEATURES), (7, 7)])
def test_hidden_units_are_the_features_unless_the_recipe_says(
    hidden: int | None, units: int
) -> None:
    layer = head(hidden=hidden)
    assert [tuple(variable.shape) for variable in layer.trainable_variables] == [
        (FEATURES, units),
        (units,),
        (units, LABELS),
        (LABELS,),
    ]


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_the_activation_is_the_recipes(activation: str) -> None:
    layer = head(activation=activation, dropout=0)
    x = tf.random.stateless_normal([4, FEATURES], seed=(0, 0))
    function = getattr(tf.nn, activation)
    expected = function(x @ layer.dense.kernel) @ layer.projection.kernel
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-6)


def test_dropout_acts_only_in_training() -> None:
    layer = head(dropout=0.5)
    x = tf.random.stateless_normal([4, FEATURES], seed=(0, 0))
    still = layer(x, training=False)
    np.testing.assert_array_equal(layer(x), still)
    assert np.abs(layer(x, training=True) - still).max() > 0


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (head(seed=seed).get_weights() for seed in (0, 0, 1))
    for mine, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(mine, same)
        assert mine.ndim == 1 or (mine != different).any()
