"""Where each token stands in its text, and which tokens it may read.

    attention_mask   1  1  1  2  2  0        positions   0  1  2  0  1  ·
                     └ text ┘ └ text ┘ padding

    reads            1
                     1  1
                     1  1  1
                     ·  ·  ·  2
                     ·  ·  ·  2  2           a text packed beside another is as if alone

A plain mask of 0 and 1 is one text, with padding on either side.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def positions(attention_mask: Any, longest: int) -> Any:
    """The place of each token in its own text, from 0: int32 [B, T].

    Args:
        attention_mask: int32 [B, T]: 0 for padding, otherwise the number of the token's text;
            numbers rise from left to right, and padding lies on either side of all texts.
        longest: rows of more tokens take no table of [B, T, T]; a device's runtime can't search.
    """
    is_text = attention_mask > 0
    place = tf.cumsum(tf.cast(is_text, tf.int32), axis=1)
    if (attention_mask.shape[1] or 0) > longest:
        after = ~is_text & (place > 0)
        rising = tf.where(after, attention_mask.dtype.max, attention_mask)
        left = tf.reduce_sum(tf.cast(place == 0, tf.int32), axis=1, keepdims=True)
        before = tf.searchsorted(rising, attention_mask) - left
    else:
        earlier = is_text[:, None, :] & (attention_mask[:, None, :] < attention_mask[:, :, None])
        before = tf.reduce_sum(tf.cast(earlier, tf.int32), axis=-1)
    return tf.where(is_text, tf.maximum(place - 1 - before, 0), 0)


def causal(attention_mask: Any) -> Any:
    """Which tokens each may read: itself and those before it in its text: bool [B, T, T].

    A token of padding reads itself alone, so that its softmax has something to be over.

    Args:
        attention_mask: see `positions`.
    """
    tokens = tf.shape(attention_mask)[1]
    before = tf.linalg.band_part(tf.ones([tokens, tokens], tf.bool), -1, 0)
    same = attention_mask[:, :, None] == attention_mask[:, None, :]
    itself = tf.eye(tokens, dtype=tf.bool)
    return (before & same & (attention_mask > 0)[:, None, :]) | itself
