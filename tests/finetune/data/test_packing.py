"""Laws of packing: every text once and whole, in few blocks, each with its own number."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import packing
from finetune.data.batches import Encoded


@given(st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_every_text_has_its_place_and_no_block_overflows(lengths: list[int]) -> None:
    blocks = packing.fit(lengths, 16)
    assert sorted(place for block in blocks for place in block) == list(range(len(lengths)))
    filled = [sum(lengths[place] for place in block) for block in blocks]
    assert max(filled) <= 16
    assert len(blocks) <= 11 / 9 * -(-sum(lengths) // 16) + 4
    assert packing.fit(lengths, 16) == blocks


def test_a_block_keeps_its_texts_apart() -> None:
    texts = [np.arange(1, size + 1, dtype=np.int32) for size in (3, 9, 2, 5)]
    counted = [np.asarray([0] * (len(text) - 1) + [1], np.int32) for text in texts]
    data = Encoded(texts, np.zeros(4, np.int32), ("c", "i", "b", "e"), counted=counted)
    packed = packing.pack(data, 12)
    assert [ids.tolist() for ids in packed.ids] == [
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3],
        [1, 2, 3, 4, 5, 1, 2],
    ]
    assert [row.tolist() for row in packed.segments] == [[1] * 9 + [2] * 3, [1] * 5 + [2] * 2]
    assert packed.counted[1].tolist() == [0, 0, 0, 0, 1, 0, 1]
    assert packed.texts == ("ic", "eb")


def test_short_texts_leave_little_room() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 1000).tolist()
    blocks = packing.fit(lengths, 128)
    assert sum(lengths) / (128 * len(blocks)) > 0.99
