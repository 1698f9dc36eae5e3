"""The loop that writes texts, as a part of a graph: the same for Python and for TensorFlow Serving.

    column     0   1   2   3   4   5   6   7
    ids        ·   ·   a   b   c   d   ?   ?         last = 5: d is not read yet
                                   └ step ─► logits ─► choose ─► column 6

A text that has ended goes on with its end token, until all have ended. Nothing else tells that it
has ended, so a decoding may be cut anywhere and taken up again from the tokens.

`B` is the batch, `S` the columns that there is room for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from finetune.deepseek import cache, sampling
from finetune.deepseek.cache import Memory
from finetune.deepseek.sampling import Sampling


class Texts(NamedTuple):
    """The texts of a batch, all of which end in the same column."""

    ids: Any  # int32 [B, S]
    mask: Any  # int32 [B, S]: 0 for padding on the left, otherwise 1
    last: Any  # int32 []: the column of the newest token, the only one that is not remembered
    memory: Memory  # S columns


def start(model: Any, input_ids: Any, attention_mask: Any, settings: Sampling) -> Any:
    """Reads prompts.

    Args:
        model: a built `CausalLM`.
        input_ids: int32 [B, T], padded on the left.
        attention_mask: int32 [B, T].

    Returns:
        The first new token of each, int32 [B], and the memory of T columns.
    """
    logits, memory = model.prefill(input_ids, attention_mask)
    seen = tf.where(attention_mask > 0, input_ids, input_ids[:, -1:])
    length = tf.reduce_sum(attention_mask, axis=1)
    return sampling.choose(logits, seen, length, settings), memory


def room(input_ids: Any, attention_mask: Any, memory: Memory, columns: Any) -> Texts:
    """Texts [B, T], all but the last token of which are remembered, with room for more tokens."""
    return Texts(
        ids=tf.pad(input_ids, [[0, 0], [0, columns]]),
        mask=tf.pad(attention_mask, [[0, 0], [0, columns]], constant_values=1),
        last=tf.shape(input_ids)[1] - 1,
        memory=cache.grow(memory, columns + 1),
    )


def advance(model: Any, texts: Texts, steps: Any, settings: Sampling, end_ids: Any) -> Texts:
    """Writes so many more tokens of each text; there must be room.

    Args:
        steps: int32 [].
        end_ids: int32 [E]: tokens that end a text; E may be 0.
    """
    prepared = model.prepared()
    columns = tf.range(tf.shape(texts.ids)[1])
    before = tf.reduce_sum(tf.where(columns < texts.last, texts.mask, 0), axis=1)  # texts.last's
    offset = before - texts.last  # from column to position
    target = texts.last + steps

    def goes_on(ids: Any, last: Any, memory: Memory) -> Any:
        del memory
        return (last < target) & ~tf.reduce_all(has_ended(ids[:, last], end_ids))

    def write(ids: Any, last: Any, memory: Memory) -> tuple[Any, Any, Memory]:
        token = ids[:, last]
        readable = (texts.mask > 0) & (columns <= last)
        logits, memory = model.step(token, last + offset, readable, memory, last, prepared)
        seen = tf.where(readable, ids, token[:, None])
        following = sampling.choose(logits, seen, last + offset + 1, settings)
        following = tf.where(has_ended(token, end_ids), token, following)
        return _put(ids, following, last + 1), last + 1, memory

    ids, last, memory = tf.while_loop(goes_on, write, (texts.ids, texts.last, texts.memory))
    ids = tf.where(columns > last, ids[:, last][:, None], ids)  # the end tokens of all that ended
    return texts._replace(ids=ids, last=target, memory=memory)


def has_ended(token: Any, end_ids: Any) -> Any:
    """Of tokens, int32 [..]: bool [..]."""
    return tf.reduce_any(token[..., None] == end_ids, axis=-1)


def lengths(tokens: Any, end_ids: Any) -> Any:
    """How many tokens [B, T] each text has up to its first end token: int32 [B]."""
    ended = tf.cast(has_ended(tokens, end_ids), tf.int32)
    before = tf.cumsum(ended, axis=1, exclusive=True)
    return tf.reduce_sum(tf.cast(before == 0, tf.int32), axis=1)


def _put(ids: Any, token: Any, column: Any) -> Any:
    """Writes tokens [B] into a column; in place, as `cache.write`."""
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=ids,
        begin=tf.stack([0, column]),
        end=tf.stack([0, column + 1]),
        strides=[1, 1],
        value=token[:, None],
        begin_mask=1,
        end_mask=1,
    )
