"""Laws of decoding: a text is read alike at once and token by token, in every variant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import cache, checkpoint, decoding, sampling
from finetune.deepseek.sampling import Settings
from finetune.recipe import Lora

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = sorted(path.name for path in GOLDEN.iterdir())
PROMPT = 9  # tokens of a golden text


@pytest.fixture(scope="module", params=VARIANTS)
def golden(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """A model, and its greedy text of 64 tokens as PyTorch has it: [1, 9 + 64]."""
    folder = GOLDEN / request.param
    return checkpoint.from_pretrained(folder), np.load(folder / "golden.npz")["greedy"]


def uncached(model: Any, ids: Any, mask: Any) -> Any:
    inputs = {"input_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}
    return model(inputs).logits.numpy()


def stepped(model: Any, ids: Any, mask: Any, prompt: int) -> Any:
    """The logits after the prompt, then after each further token that was read alone."""
    columns = tf.range(ids.shape[1])

    @tf.function
    def read() -> Any:
        logits, memory = model.prefill(tf.constant(ids[:, :prompt]), tf.constant(mask[:, :prompt]))
        memory = cache.grow(memory, ids.shape[1] - prompt)
        found, prepared = [logits], model.prepared()
        for column in range(prompt, ids.shape[1]):
            position = tf.reduce_sum(mask[:, :column], axis=1)
            readable = (mask > 0) & (columns <= column)
            logits, memory = model.step(
                tf.constant(ids[:, column]), position, readable, memory, column, prepared
            )
            found.append(logits)
        return tf.stack(found, 1)

    return read().numpy()


def test_cached_logits_are_the_uncached_ones_also_with_padding(golden: tuple[Any, Any]) -> None:
    """The latent attention's `call` is expanded, its `step` absorbed: this compares them too."""
    model, text = golden
    ids = np.repeat(text[:, :12], 2, axis=0)
    mask = np.ones_like(ids)
    mask[1, :4] = 0
    whole = uncached(model, ids, mask)[:, PROMPT - 1 :]
    np.testing.assert_allclose(stepped(model, ids, mask, PROMPT), whole, atol=2e-5)
    alone = uncached(model, ids[1:, 4:], mask[1:, 4:])[0, PROMPT - 5 :]
    np.testing.assert_allclose(whole[1], alone, atol=2e-5)


def test_greedy_text_is_the_references(golden: tuple[Any, Any]) -> None:
    model, text = golden
    steps = text.shape[1] - PROMPT

    @tf.function
    def written() -> Any:
        settings = sampling.of(Settings(), 1)
        ids = tf.constant(text[:, :PROMPT])
        token, memory = decoding.start(model, ids, tf.ones_like(ids), settings)
        ids = tf.concat([ids, token[:, None]], 1)
        texts = decoding.room(ids, tf.ones_like(ids), memory, steps - 1)
        return decoding.advance(model, texts, steps - 1, settings, tf.constant([], tf.int32)).ids

    np.testing.assert_array_equal(written(), text)


def test_absorbed_attention_takes_the_adapters_path_too() -> None:
    from finetune.deepseek.lora import Adapters

    model = checkpoint.from_pretrained(GOLDEN / "v3")
    adapters = Adapters(model, Lora(rank=2, targets=("kv_b_proj",)))
    for number, path in enumerate(adapters):
        path.lora_b.assign(tf.random.stateless_normal(path.lora_b.shape, [number, 0]))
    ids = np.asarray([[5, 3, 9, 60, 1, 7]], np.int32)
    mask = np.ones_like(ids)
    found = stepped(model, ids, mask, 3)
    np.testing.assert_allclose(found, uncached(model, ids, mask)[:, 2:], atol=2e-4)


def test_a_text_that_has_ended_repeats_its_end_token() -> None:
    tokens = tf.constant([[4, 7, 9, 9], [1, 2, 3, 4], [9, 9, 9, 9], [1, 2, 3, 7]])
    assert decoding.lengths(tokens, tf.constant([9, 7])).numpy().tolist() == [2, 4, 1, 4]
    assert decoding.lengths(tokens, tf.constant([], tf.int32)).numpy().tolist() == [4] * 4
