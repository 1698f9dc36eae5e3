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
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from finetune import blocks
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
        kept = [_Kept(layer) for layer in block.submodules if _narrows(layer)]
        block.call = _recomputing(block, block.call, kept)
    return len(found)


def _recomputing(block: Any, original: Any, kept: list[_Kept]) -> Any:
    inside = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside or not kwargs.get("training"):
            return original(*args, **kwargs)
        leaves = tf.nest.flatten((args, kwargs))
        places = [index for index, leaf in enumerate(leaves) if tf.is_tensor(leaf)]
        products = [[] for _ in kept]
        passes = 0

        # recompute_grad takes tensors, by position; the rest is closed over. It calls the block,
        # not its `call`: only so the backward pass enters the block's mixed-precision scope.
        def compute(*tensors: Any) -> Any:
            nonlocal inside, passes
            filled = list(leaves)
            for index, tensor in zip(places, tensors, strict=True):
                filled[index] = tensor
            again_args, again_kwargs = tf.nest.pack_sequence_as((args, kwargs), filled)
            for layer, own in zip(kept, products, strict=True):
                layer.begin(own, again=passes > 0)
            inside, passes = True, passes + 1
            try:
                return block(*again_args, **again_kwargs)
            finally:
                inside = False
                for layer in kept:
                    layer.end()

        return tf.recompute_grad(compute)(*(leaves[index] for index in places))

    return call


class _Kept:
    """A dense layer that can answer with what it gave before, and has its gradients all the same.

    Those need its input and its weights only, so the product is made once.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._original = layer.call
        self._call = self._original
        layer.call = lambda inputs: self._call(inputs)

    def begin(self, products: list[Any], *, again: bool) -> None:
        """Of a pass through the block: the first fills `products`, one a call; another reads it."""
        given = iter(products)

        def remember(inputs: Any) -> Any:
            products.append(self._original(inputs))
            return products[-1]

        def recall(inputs: Any) -> Any:
            layer = self._layer
            weights = [layer.kernel, *([layer.bias] if layer.use_bias else [])]
            tensors = [tf.convert_to_tensor(weight) for weight in weights]
            return _product(next(given), inputs, *tensors)

        self._call = recall if again else remember

    def end(self) -> None:
        """After it."""
        self._call = self._original


def _narrows(layer: Any) -> bool:
    return (
        type(layer) is tf_keras.layers.Dense
        and layer.activation is tf_keras.activations.linear
        and layer.kernel.shape[0] > layer.kernel.shape[1]
    )


def _product(known: Any, inputs: Any, kernel: Any, *bias: Any) -> Any:
    """inputs [.., M] · kernel [M, N] + bias [N] = known [.., N], with its gradients."""

    @tf.custom_gradient
    def product(inputs: Any, kernel: Any, *bias: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            rows = tf.reshape(inputs, [-1, kernel.shape[0]])
            to_rows = tf.reshape(upstream, [-1, kernel.shape[1]])
            to_inputs = tf.reshape(tf.matmul(to_rows, kernel, transpose_b=True), tf.shape(inputs))
            to_kernel = tf.matmul(rows, to_rows, transpose_a=True)
            return to_inputs, to_kernel, *(tf.raw_ops.BiasAddGrad(out_backprop=to_rows) for _ in bias)

        return tf.identity(known), gradient

    return product(inputs, kernel, *bias)
