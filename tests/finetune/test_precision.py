"""Laws of precision: the recipe's choice, or what is right for this machine; nothing leaks out."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
import tf_keras

from finetune import precision
from finetune.precision import Policy


@pytest.mark.parametrize("asked", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_what_the_recipe_names_is_taken(asked: str) -> None:
    assert precision.choose(asked) == asked


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="for machines without GPU")
def test_auto_takes_bfloat16_only_where_the_cpu_multiplies_it() -> None:
    cpu = Path("/proc/cpuinfo")
    text = cpu.read_text() if cpu.exists() else ""
    fast = "amx_bf16" in text or "avx512_bf16" in text
    assert precision.choose("auto") == ("mixed_bfloat16" if fast else "float32")


@pytest.mark.parametrize(
    ("policy", "compute"),
    [("float32", "float32"), ("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")],
)
def test_layers_inside_compute_in_the_policy_and_keep_float32_variables(
    policy: Policy, compute: str
) -> None:
    before = tf_keras.mixed_precision.global_policy().name
    with precision.scope(policy):
        layer = tf_keras.layers.Dense(2)
    assert layer(tf.ones([1, 3])).dtype == compute
    assert layer.kernel.dtype == tf.float32
    assert tf_keras.mixed_precision.global_policy().name == before


def test_the_policy_is_restored_after_an_error() -> None:
    before = tf_keras.mixed_precision.global_policy().name
    with pytest.raises(ZeroDivisionError), precision.scope("mixed_bfloat16"):
        _ = 1 / 0
    assert tf_keras.mixed_precision.global_policy().name == before
