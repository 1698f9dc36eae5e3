"""Laws of the cache: what leaves the program comes back the same, and a token has one column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import cache, config
from finetune.deepseek.cache import Memory
from finetune.deepseek.config import DecoderConfig

GOLDEN = Path(__file__).parent / "golden"


def random(told: DecoderConfig, texts: int, columns: int) -> Memory:
    generator = np.random.default_rng(0)
    return tuple(
        tuple(
            tf.constant(generator.normal(size=(texts, groups, columns, features)), tf.float32)
            for groups, features in cache.shapes(told)
        )
        for _ in range(told.blocks)
    )


@pytest.mark.parametrize(("variant", "width"), [("llama", 2 * 2 * 2 * 8), ("v3", 2 * (12 + 4))])
def test_a_token_is_remembered_by_as_few_numbers_as_its_attention_allows(
    variant: str, width: int
) -> None:
    """Grouped: 2 blocks of keys and values of 2 groups of 8. Latent: of latent 12 and key 4."""
    assert cache.width(config.read(GOLDEN / variant)) == width


@pytest.mark.parametrize("variant", ["llama", "v3"])
def test_unpacking_undoes_packing(variant: str) -> None:
    told = config.read(GOLDEN / variant)
    memory = random(told, texts=3, columns=5)
    packed = cache.pack(memory)
    assert packed.shape == (3, 5, cache.width(told))
    tf.nest.map_structure(np.testing.assert_array_equal, cache.unpack(told, packed), memory)


def test_a_token_is_written_into_its_column_only() -> None:
    memory = random(config.read(GOLDEN / "llama"), texts=2, columns=4)
    part = memory[0][0]
    found = cache.write(part, tf.ones([2, 2, 1, 8]), tf.constant(2)).numpy()
    np.testing.assert_array_equal(found[:, :, 2], 1)
    np.testing.assert_array_equal(np.delete(found, 2, axis=2), np.delete(part.numpy(), 2, axis=2))


def test_room_is_at_the_end() -> None:
    memory = random(config.read(GOLDEN / "v3"), texts=1, columns=3)
    (grown,) = cache.grow(memory, tf.constant(2))[1]
    np.testing.assert_array_equal(grown[:, :, :3], memory[1][0])
    np.testing.assert_array_equal(grown[:, :, 3:], 0)
