"""Attention over long texts in bounded memory: some rows of the scores at a time.

    queries   C rows ─► scores [C, T] ─► softmax ─► · v ─► C rows of the answer
              C rows ─► …                                         one after the other

Each row sees all of its scores at once, so the numbers are those of plain attention. The gradients
make the scores again, as many rows at a time.

Source: Rabe and Staats: Self-attention Does Not Need O(n²) Memory, section 2 (arXiv 2112.05682).
`B` is the batch, `T` the tokens, `H` the heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

Attend = Callable[[Any, Any, Any, Any], Any]  # q, k, v, visible → [B, T, H · E]

LONGEST = 1024  # tokens: texts up to here are read at once
_ROWS = 256  # C


def attend_by_rows(
    attend: Attend, q: Any, k: Any, v: Any, attention_mask: Any, window: int | None = None
) -> Any:
    """What `attend` gives with the whole table of who reads whom, `visible.causal`.

    Args:
        attend: gives some rows of the answer for some of the queries, which read rows of the table.
        q: [B, T, H, D]; `k` [B, T, H, D]; `v` [B, T, H, E].
        attention_mask: int32 [B, T]; see `visible`.
        window: see `within`.

    Returns:
        [B, T, H · E].
    """

    def visible(first: Any) -> Any:
        return _visible(attention_mask, first, window)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def attended(q: Any, k: Any, v: Any) -> Any:
        tokens = tf.shape(q)[1]

        def rows(first: Any) -> Any:
            return attend(_cut(q, first), k, v, visible(first))

        def gradients(upstream: Any) -> tuple[Any, Any, Any]:
            return _gradients(attend, (q, k, v), visible, upstream)

        return _joined(_each(rows, tokens, v.dtype), tokens), gradients

    read = attended(q, k, v)
    return tf.ensure_shape(read, [*q.shape[:2], v.shape[2] * v.shape[3]])


def within(visible: Any, window: int) -> Any:
    """The table bool [B, T, T] without the tokens that are `window` or more before their reader."""
    columns = tf.range(tf.shape(visible)[1])
    return visible & (columns[None, :] > columns[:, None] - window)


def _gradients(
    attend: Attend, given: Any, visible: Callable[[Any], Any], upstream: Any
) -> tuple[Any, Any, Any]:
    """Of queries, keys and values, the latter two summed in float32."""
    q, k, v = given
    tokens = tf.shape(q)[1]
    count = _count(tokens)

    def add(number: Any, to_q: Any, to_k: Any, to_v: Any) -> Any:
        first = number * _ROWS
        some = _cut(q, first)
        with tf.GradientTape() as tape:
            tape.watch((some, k, v))
            read = attend(some, k, v, visible(first))
        found = tape.gradient(read, (some, k, v), _cut(upstream, first))
        more = [tf.cast(each, tf.float32) for each in found[1:]]
        return number + 1, to_q.write(number, found[0]), to_k + more[0], to_v + more[1]

    nothing = [tf.zeros(tf.shape(each), tf.float32) for each in (k, v)]
    begun = (0, tf.TensorArray(q.dtype, count), *nothing)
    _, to_q, to_k, to_v = tf.while_loop(
        lambda number, *_: number < count, add, begun, parallel_iterations=1
    )
    return _joined(to_q, tokens), tf.cast(to_k, k.dtype), tf.cast(to_v, v.dtype)


def _each(rows: Callable[[Any], Any], tokens: Any, dtype: Any) -> Any:
    """The answers of all rows, C by C, in a TensorArray."""
    count = _count(tokens)

    def add(number: Any, found: Any) -> Any:
        return number + 1, found.write(number, rows(number * _ROWS))

    begun = (0, tf.TensorArray(dtype, count))
    return tf.while_loop(lambda number, _: number < count, add, begun, parallel_iterations=1)[1]


def _count(tokens: Any) -> Any:
    return (tokens + _ROWS - 1) // _ROWS


def _cut(x: Any, first: Any) -> Any:
    """C rows of [B, T, ..]; beyond T there are zeros."""
    some = x[:, first : first + _ROWS]
    lacking = _ROWS - tf.shape(some)[1]
    padded = tf.pad(some, [[0, 0], [0, lacking], *[[0, 0]] * (x.shape.rank - 2)])
    return tf.ensure_shape(padded, [x.shape[0], _ROWS, *x.shape[2:]])


def _joined(found: Any, tokens: Any) -> Any:
    """[B, T, ..] of a TensorArray of [B, C, ..]."""
    stacked = found.stack()
    order = [1, 0, *range(2, stacked.shape.rank)]
    shape = tf.shape(stacked)
    whole = tf.concat([[shape[1], shape[0] * shape[2]], shape[3:]], 0)
    return tf.reshape(tf.transpose(stacked, order), whole)[:, :tokens]


def _visible(attention_mask: Any, first: Any, window: int | None) -> Any:
    """C rows of `visible.causal`, within the window: bool [B, C, T]."""
    columns = tf.range(tf.shape(attention_mask)[1])
    rows = first + tf.range(_ROWS)
    texts = _cut(attention_mask, first)
    same = texts[:, :, None] == attention_mask[:, None, :]
    before = columns[None, :] <= rows[:, None]
    if window is not None:
        before &= columns[None, :] > rows[:, None] - window
    return (before & same & (attention_mask > 0)[:, None, :]) | (columns == rows[:, None])
