"""Laws of the quick GELU: it is the exact one, its gradient too, and it is only for training."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from finetune import activation


def test_values_and_gradients_are_those_of_the_exact_gelu() -> None:
    x = tf.constant(np.linspace(-6, 6, 2001), tf.float32)
    found = []
    for function in (activation.gelu, tf_keras.activations.gelu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append((y.numpy(), tape.gradient(y, x).numpy()))
    (values, slopes), (exact_values, exact_slopes) = found
    np.testing.assert_allclose(values, exact_values, atol=1e-6)
    np.testing.assert_allclose(slopes, exact_slopes, atol=1e-6)


def test_every_gelu_of_an_encoder_is_replaced_and_no_other_activation() -> None:
    from transformers import BertConfig, TFBertForSequenceClassification

    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 16}
    for name, expected in (("gelu", 3), ("relu", 0), ("gelu_new", 0)):
        config = BertConfig(vocab_size=9, num_hidden_layers=3, hidden_act=name, **sizes)
        model = TFBertForSequenceClassification(config)
        ids = tf.constant([[1, 2, 3]])
        before = model(ids).logits
        assert activation.quicken(model) == expected
        np.testing.assert_allclose(model(ids).logits, before, atol=1e-5)


def test_a_new_model_has_the_activation_that_converters_know(task: Any) -> None:
    model = task.build_model()
    assert activation.quicken(model) > 0
    assert activation.quicken(task.build_model()) > 0
