"""What a decoder remembers of the tokens that it has read, so that it reads a new one alone.

    column      0   1   2   3   4   5   6
    text 0      ·   ·   a   b   c   d   _       padded on the left, so that all texts end together:
    text 1      ·   ·   ·   ·   x   y   _       the next token of each goes into one column

Of a block, in memory           of all blocks, where it leaves the program
    grouped    keys, values     [B, G, S, D] each      ┐
    latent     latent | key     [B, 1, S, R + r]       ┘─► one tensor [B, S, W]

The latent's key is turned already. A column of padding holds something, which no token reads.
`B` is the batch, `S` the columns, `G` the groups of heads that share a key, `D` its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from finetune.deepseek.config import DecoderConfig

Parts = tuple[Any, ...]  # of one block: tensors [B, G, S, D]
Memory = tuple[Parts, ...]  # of all blocks


def shapes(config: DecoderConfig) -> tuple[tuple[int, int], ...]:
    """Groups and features (G, D) of each part of a block."""
    if config.latent is not None:
        return ((1, config.latent.key_value_rank + config.latent.rotary),)
    each = (config.key_value_heads, config.head_features)
    return (each, each)


def width(config: DecoderConfig) -> int:
    """W: how many numbers are remembered of a token."""
    return config.blocks * sum(groups * features for groups, features in shapes(config))


def write(part: Any, entry: Any, column: Any) -> Any:
    """A part with one more token of each text; in place, where nothing else holds the part.

    Args:
        part: [B, G, S, D].
        entry: [B, G, 1, D].
        column: int32 []; None for a new one, after the last.
    """
    if column is None:
        return tf.concat([part, entry], axis=2)
    first = tf.stack([0, 0, column, 0])
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=part,
        begin=first,
        end=first + 1,
        strides=[1, 1, 1, 1],
        value=entry,
        begin_mask=0b1011,  # all of the other axes
        end_mask=0b1011,
    )


def grow(memory: Memory, columns: Any) -> Memory:
    """Room for more tokens: int32 [] columns of zeros at the end."""
    paddings = tf.convert_to_tensor([[0, 0], [0, 0], [0, columns], [0, 0]])
    return tuple(tuple(tf.pad(part, paddings) for part in parts) for parts in memory)


def pack(memory: Memory) -> Any:
    """All blocks in one tensor [B, S, W]."""
    flat = []
    for part in (part for parts in memory for part in parts):
        by_column = tf.transpose(part, [0, 2, 1, 3])
        shape = tf.shape(by_column)
        features = part.shape[1] * part.shape[3]
        flat.append(tf.reshape(by_column, [shape[0], shape[1], features]))
    return tf.concat(flat, axis=-1)


def unpack(config: DecoderConfig, packed: Any) -> Memory:
    """The inverse of `pack`."""
    sizes = [groups * features for groups, features in shapes(config)] * config.blocks
    flat: Sequence[Any] = tf.split(packed, sizes, axis=-1)
    shape = tf.shape(packed)
    parts = []
    for place, each in enumerate(flat):
        groups, features = shapes(config)[place % len(shapes(config))]
        split = tf.reshape(each, [shape[0], shape[1], groups, features])
        parts.append(tf.transpose(split, [0, 2, 1, 3]))
    count = len(shapes(config))
    return tuple(tuple(parts[first : first + count]) for first in range(0, len(parts), count))
