"""Gradient checkpointing: a block keeps little, and is computed again for its gradients.

    forward    x ─► block ─► y         what lies inside the block is forgotten
    backward   x ─► block ─► y         … and made again from x, one block at a time
                     ◄── gradients ── dy

Peak memory falls from the sum of all blocks' activations to their inputs and one block, for almost
one more forward pass. Two things make it cheaper for little memory:

    the last block     is the first to be needed again, when nothing else is held: it is not
                       recomputed
    narrowing layers   [.., 4 d] ─► [.., d]: a third of a block's products in one small tensor,
                       which is kept

The choices of a mixture's router are kept too: they are made once, outside of what is recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras

from finetune import blocks
from finetune.deepseek.experts import Router
from finetune.errors import ModelError


def checkpoint(model: Any) -> int:
    """Makes the blocks of a built model recompute; its dropout must be stateless.

    Returns:
        The number of blocks, the last one included.

    Raises:
        ModelError: it has none, so there is nothing to checkpoint.

    Source:
        Chen et al.: Training Deep Nets with Sublinear Memory Cost, section 3 (arXiv 1604.06174);
        Korthikanti et al.: Reducing Activation Recomputation in Large Transformer Models, section
        5, for recomputing what is cheap for its size (arXiv 2205.05198).
    """
    found = blocks.find(model)
    if not found:
        raise ModelError(
            f"memory.gradient_checkpointing: {type(model).__name__} has no list of equal blocks; "
            "set it to false"
        )
    for block in found[:-1]:
        block.call = _recomputing(block, block.call)
    return len(found)


def _recomputing(block: Any, original: Any) -> Any:
    narrowing = [layer for layer in block.submodules if _narrows(layer)]
    routers = [layer for layer in block.submodules if isinstance(layer, Router)]
    inside = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside or not kwargs.get("training"):
            return original(*args, **kwargs)
        leaves = tf.nest.flatten((args, kwargs))
        places = [index for index, leaf in enumerate(leaves) if _has_gradient(leaf)]
        products = _Kept(narrowing, routers)

        # recompute_grad takes what has gradients, by position; the rest, masks among it, is closed
        # over. It calls the block, not its `call`: only so the backward pass enters the block's
        # mixed-precision scope.
        def compute(*tensors: Any) -> Any:
            nonlocal inside
            filled = list(leaves)
            for index, tensor in zip(places, tensors, strict=True):
                filled[index] = tensor
            again_args, again_kwargs = tf.nest.pack_sequence_as((args, kwargs), filled)
            inside = True
            try:
                with products.kept():
                    return block(*again_args, **again_kwargs)
            finally:
                inside = False

        return tf.recompute_grad(compute)(*(leaves[index] for index in places))

    return call


def _has_gradient(leaf: Any) -> bool:
    return bool(tf.is_tensor(leaf) and leaf.dtype.is_floating)


def _narrows(layer: Any) -> bool:
    return (
        type(layer) is tf_keras.layers.Dense
        and layer.built  # some architectures make layers that they never use
        and layer.activation is tf_keras.activations.linear
        and layer.kernel.shape[0] > layer.kernel.shape[1]
    )


class _Kept:
    """What layers gave in the first pass through a block, and give again in the next.

    The gradients of dense layers need input and weights only, so their products need not be
    computed again. The choices of experts must not be: where two experts are almost equal, the
    next pass might choose another one.
    """

    def __init__(self, narrowing: list[Any], routers: list[Any]) -> None:
        self._methods = [
            *((layer, "call", _recalling) for layer in narrowing),
            *((router, "choose", _choosing) for router in routers),
        ]
        self._known: list[Any] = []  # in the order of the calls, which is the same in each pass

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around a pass."""
        first, known = not self._known, iter(self._known)
        originals = [getattr(layer, name) for layer, name, _ in self._methods]
        for (layer, name, recall), original in zip(self._methods, originals, strict=True):
            setattr(layer, name, self._noting(original) if first else recall(layer, known))
        try:
            yield
        finally:
            for (layer, name, _), original in zip(self._methods, originals, strict=True):
                setattr(layer, name, original)

    def _noting(self, original: Any) -> Any:
        def call(inputs: Any) -> Any:
            product = original(inputs)
            self._known.append(product)
            return product

        return call


def _choosing(_: Any, known: Iterator[Any]) -> Any:
    return lambda _scores: next(known)


def _recalling(layer: Any, known: Iterator[Any]) -> Any:
    def call(inputs: Any) -> Any:
        weights = [layer.kernel, layer.bias] if layer.use_bias else [layer.kernel]
        # Made tensors here, where mixed precision casts the layer's weights.
        return _answer(next(known), inputs, *(tf.convert_to_tensor(each) for each in weights))

    return call


def _answer(product: Any, inputs: Any, kernel: Any, *bias: Any) -> Any:
    """`product`, with the gradients of inputs [.., M] · kernel [M, N] + bias [N]."""

    def answer(inputs: Any, kernel: Any, *bias: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, ...]:
            rows = tf.reshape(inputs, [-1, kernel.shape[0]])
            by_row = tf.reshape(upstream, [-1, kernel.shape[1]])
            to_inputs = tf.reshape(tf.matmul(by_row, kernel, transpose_b=True), tf.shape(inputs))
            to_kernel = tf.matmul(rows, by_row, transpose_a=True)
            to_bias = (tf.raw_ops.BiasAddGrad(out_backprop=by_row) for _ in bias)
            return to_inputs, to_kernel, *to_bias

        # Else what follows, which needs no more than the product, would run in the forward pass
        # already, and its results lie there until the backward pass.
        with tf.control_dependencies([inputs]):
            return tf.identity(product), gradients

    return tf.custom_gradient(answer)(inputs, kernel, *bias)
