"""Several short texts in one block, so that little of a step is spent on padding.

    lengths 9 5 4 3 2, block 12     │ 9       │ 3  │     segments 1 1 1 1 1 1 1 1 1 2 2 2
                                    │ 5    │ 4  │2 │·    segments 1 1 1 1 1 2 2 2 2 3 3 0

The model keeps the texts apart by the numbers of their segments, see `deepseek.visible`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bundle.preprocess import Ids
from finetune.data.batches import Encoded


def pack(data: Encoded, length: int) -> Encoded:
    """Blocks of at most `length` tokens that hold every text once, whole.

    The same texts are always packed alike.

    Args:
        data: of texts no longer than that.
    """
    blocks = fit([len(ids) for ids in data.ids], length)
    segments = [
        np.repeat(np.arange(1, len(block) + 1, dtype=np.int32), [len(data.ids[i]) for i in block])
        for block in blocks
    ]
    return Encoded(
        _joined(data.ids, blocks),
        np.zeros(len(blocks), np.int32),
        tuple("".join(data.texts[place] for place in block) for block in blocks),
        segments=segments,
        counted=_joined(data.counted, blocks) if data.counted else (),
    )


def fit(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Which of the lengths share a block, by place: each goes, longest first, where least is left.

    Source:
        Johnson: Near-Optimal Bin Packing Algorithms (MIT 1973), best fit decreasing: at most
        11/9 of the fewest blocks, and 4.
    """
    blocks: list[list[int]] = []
    open_: list[list[int]] = [[] for _ in range(most + 1)]  # blocks, by what is left in them
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        own = lengths[place]
        left = next((left for left in range(own, most + 1) if open_[left]), None)
        if left is None:
            left, block = most, len(blocks)
            blocks.append([])
        else:
            block = open_[left].pop()
        blocks[block].append(place)
        open_[left - own].append(block)
    return blocks


def _joined(rows: Sequence[Ids], blocks: Sequence[Sequence[int]]) -> list[Ids]:
    return [np.concatenate([rows[place] for place in block]) for block in blocks]
