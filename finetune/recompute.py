"""Gradient checkpointing: a block keeps its inputs only, and is computed again for its gradients.

    forward    x ─► block ─► y         what lies inside the block is forgotten
    backward   x ─► block ─► y         … and made again from x, one block at a time
                     ◄── gradients ── dy

Peak memory falls from the sum of all blocks' activations to their inputs and one block, for one
more forward pass.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from finetune import blocks
from finetune.errors import ModelError


def checkpoint(model: Any) -> int:
    """Makes every block of a built model recompute; its dropout must be stateless.

    Returns:
        The number of blocks.

    Raises:
        ModelError: it has none, so there is nothing to checkpoint.

    Source:
        Chen et al.: Training Deep Nets with Sublinear Memory Cost, section 3 (arXiv 1604.06174).
    """
    found = blocks.find(model)
    if not found:
        raise ModelError(
            f"memory.gradient_checkpointing: {type(model).__name__} has no list of equal blocks; "
            "set it to false"
        )
    for block in found:
        block.call = _recomputing(block, block.call)
    return len(found)


def _recomputing(block: Any, original: Any) -> Any:
    inside = False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        if inside or not kwargs.get("training"):
            return original(*args, **kwargs)
        leaves = tf.nest.flatten((args, kwargs))
        places = [index for index, leaf in enumerate(leaves) if tf.is_tensor(leaf)]

        # recompute_grad takes tensors, by position; the rest is closed over. It calls the block,
        # not its `call`: only so the backward pass enters the block's mixed-precision scope.
        def compute(*tensors: Any) -> Any:
            nonlocal inside
            filled = list(leaves)
            for index, tensor in zip(places, tensors, strict=True):
                filled[index] = tensor
            again_args, again_kwargs = tf.nest.pack_sequence_as((args, kwargs), filled)
            inside = True
            try:
                return block(*again_args, **again_kwargs)
            finally:
                inside = False

        return tf.recompute_grad(compute)(*(leaves[index] for index in places))

    return call

