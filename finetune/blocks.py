"""The repeated blocks of a model, and how deep each variable lies.

embeddings 0 ─► block 1 ─► block 2 ─► … ─► block L ─► head L + 1
"""

from __future__ import annotations

from typing import Any

import tf_keras


def find(model: Any) -> list[Any]:
    """The longest list of layers of one class that a model holds, in order; empty if none."""
    lists = [
        list(value)
        for module in (model, *model.submodules)
        for name, value in vars(module).items()
        if not name.startswith("_") and _is_stack(value)  # Keras lists every part in private
    ]
    return max(lists, key=len, default=[])


def depths(model: Any) -> list[int]:
    """How deep each of `model.trainable_variables` lies: 0 before the first block."""
    blocks = find(model)
    inside = {
        id(variable): place
        for place, block in enumerate(blocks, 1)
        for variable in block.trainable_variables
    }
    found: list[int] = []
    reached, is_head_alone = 0, bool(blocks) and not inside  # then the rest is frozen
    for variable in model.trainable_variables:
        depth = inside.get(id(variable))
        if depth is None:
            depth = len(blocks) + 1 if reached or is_head_alone else 0
        else:
            reached = depth
        found.append(depth)
    return found


def members(model: Any) -> dict[str, list[int]]:
    """Positions of `model.trainable_variables` by part: `embeddings`, `block_1`, …, `head`."""
    found: dict[str, list[int]] = {}
    last = len(find(model)) + 1
    for place, depth in enumerate(depths(model)):
        name = {0: "embeddings", last: "head"}.get(depth, f"block_{depth}")
        found.setdefault(name, []).append(place)
    return found


def _is_stack(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) == 0:
        return False
    first = type(value[0])
    return issubclass(first, tf_keras.layers.Layer) and all(type(each) is first for each in value)
