"""Laws of attention by rows: the numbers and gradients of plain attention, without its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import attention, long_attention, visible
from finetune.deepseek.config import DecoderConfig, Rope
from finetune.deepseek.decoder import CausalLM

TOKENS = 300  # one whole run of rows, and some
LONG = 2048


@pytest.fixture(scope="module")
def given() -> tuple[Any, ...]:
    """Queries, keys, values; texts: one padded on the left, two packed into one, one whole."""
    draw = np.random.default_rng(0).normal
    q, k, v = (tf.constant(draw(size=(3, TOKENS, 2, 4)), tf.float32) for _ in range(3))
    mask = np.ones((3, TOKENS), np.int32)
    mask[0, :40] = 0
    mask[1, 130:280], mask[1, 280:] = 2, 0
    return q, k, v, tf.constant(mask)


def run(q: Any, k: Any, v: Any, readable: Any, window: int | None) -> tuple[Any, ...]:
    with tf.GradientTape() as tape:
        tape.watch((q, k, v))
        read = attention.attend(q, k, v, readable, 0.5, window)
        loss = tf.reduce_sum(tf.sin(read))
    return (read, *tape.gradient(loss, (q, k, v)))


@pytest.mark.parametrize("window", [None, 7, 1000])
def test_rows_give_what_the_whole_gives(given: tuple[Any, ...], window: int | None) -> None:
    q, k, v, mask = given
    plain = run(q, k, v, visible.causal(mask), window)
    for found, expected in zip(tf.function(run)(q, k, v, mask, window), plain, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_window_is_as_wide_as_it_says() -> None:
    table = long_attention.within(visible.causal(tf.ones([1, 6], tf.int32)), 3)[0].numpy()
    assert table.sum(axis=1).tolist() == [1, 2, 3, 3, 3, 3]
    assert table[5].tolist() == [False, False, False, True, True, True]


def sizes(graph: Any) -> Iterator[int]:
    """Of every tensor of a graph and of its functions whose shape is known."""
    for function in (graph, *graph._functions.values()):
        inner = getattr(function, "graph", function)
        for operation in inner.get_operations():
            for output in operation.outputs:
                if output.shape.is_fully_defined():
                    yield output.shape.num_elements()


@pytest.fixture
def model() -> Callable[[], CausalLM]:
    """A small model that reads long texts."""
    told = DecoderConfig(
        family="llama",
        vocabulary=11,
        hidden=8,
        blocks=1,
        heads=2,
        key_value_heads=1,
        head_features=4,
        feed_forward=8,
        epsilon=1e-6,
        positions=LONG,
        rope=Rope(theta=1e4),
    )
    return lambda: CausalLM(told)


def test_no_table_of_a_long_text_is_made() -> None:
    """Neither forward nor for gradients: the largest tensor has C rows of 2 heads, not T."""

    def largest(tokens: int, readable: Any) -> int:
        heads = tf.TensorSpec([1, tokens, 2, 4])
        table = tf.TensorSpec([1, *readable], tf.int32 if len(readable) == 1 else tf.bool)
        function = tf.function(lambda q, k, v, table: run(q, k, v, table, None))
        return max(sizes(function.get_concrete_function(heads, heads, heads, table).graph))

    assert largest(LONG, [LONG]) <= 2 * 256 * LONG
    assert largest(LONG, [LONG, LONG]) == 2 * LONG * LONG


def test_prefill_of_any_length_is_what_call_gives(model: Callable[[], CausalLM]) -> None:
    """A server's prefill does not know the length when it is traced, so it goes by rows."""
    made = model()
    ids = tf.constant(np.random.default_rng(0).integers(0, 11, (2, 270)), tf.int32)
    mask = tf.concat([tf.zeros([2, 5], tf.int32), tf.ones([2, 265], tf.int32)], 1)
    spec = tf.TensorSpec([None, None], tf.int32)
    whole = made({"input_ids": ids, "attention_mask": mask}).logits[:, -1]
    prefill = tf.function(made.prefill).get_concrete_function(spec, spec)
    np.testing.assert_allclose(prefill(ids, mask)[0], whole, atol=1e-5)
