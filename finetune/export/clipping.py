"""Feed-forward outliers, cut off where they carry no information.

    x ─► FULLY_CONNECTED ─┬─► GELU ─► FULLY_CONNECTED ─┬─► + x ─► norm
                        bound                        bound

In many encoders a few channels of a few tokens are a hundred times larger than all others, and an
int8 scale that holds them has no steps left for the rest. Many of these numbers could be anything.
So the calibration runs with the bounds in the graph, and everything behind them is measured as it
will be; the quantized model itself needs no operation for it, since int8 ends at its largest value.

Source:
    Bondarenko et al.: Understanding and Overcoming the Challenges of Efficient Transformer
    Quantization, section 3 (arXiv 2109.12948), on what is so large, and where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from finetune.export import tflite_file
from finetune.export.ranges import Observed, Place, Range, Ranges, places
from finetune.export.tflite_file import Subgraph

_LEAST = -5.0  # GELU of what is smaller is 0 in all digits that int8 has


def bounds(model: bytes, observed: Mapping[Place, Observed], times: float) -> Ranges:
    """Bounds of what goes into each GELU, and of what the product after it gives.

    Args:
        times: how far they are, in what 99% of a tensor's numbers stay within.
    """
    parsed = tflite_file.parse(model)
    graph, located = Subgraph(parsed, parsed.subgraphs[0]), places(parsed)[0]
    found: Ranges = {}
    for operator, name in zip(graph.graph.operators, graph.names, strict=True):
        if name != "GELU":
            continue
        inner = located[operator.inputs[0]]
        far = times * observed[inner].typical
        found[inner] = Range(_LEAST, max(far, -_LEAST))
        for reader, kind in zip(graph.graph.operators, graph.names, strict=True):
            if kind == "FULLY_CONNECTED" and reader.inputs[0] == operator.outputs[0]:
                outer = located[reader.outputs[0]]
                far = times * observed[outer].typical
                found[outer] = Range(-far, far)
    return found


def insert(model: bytes, limits: Mapping[Place, Range]) -> bytes:
    """The model with the bounds as operations, for calibration."""
    parsed = tflite_file.parse(model)
    for graph, located in zip(parsed.subgraphs, places(parsed), strict=True):
        _insert(Subgraph(parsed, graph), located, limits)
    return tflite_file.pack(parsed)


def _insert(graph: Subgraph, located: Mapping[int, Place], limits: Mapping[Place, Range]) -> None:
    written: list[Any] = []
    bounded: dict[int, int] = {}
    for operator in graph.graph.operators:
        operator.inputs = [bounded.get(tensor, tensor) for tensor in operator.inputs]
        written.append(operator)
        for tensor in operator.outputs:
            limit = limits.get(located[tensor])
            if limit is not None:
                below = graph.tensor(tensor, "float32", None)
                bounded[tensor] = graph.tensor(tensor, "float32", None)
                written.append(_bound(graph, "MINIMUM", tensor, limit.high, below))
                written.append(_bound(graph, "MAXIMUM", below, limit.low, bounded[tensor]))
    graph.graph.operators = written


def _bound(graph: Subgraph, name: str, source: int, limit: float, target: int) -> Any:
    data = np.asarray([limit], np.float32).view(np.uint8)
    graph.parsed.buffers.append(schema.BufferT(data=data))
    constant = graph.tensor(source, "float32", None, len(graph.parsed.buffers) - 1)
    graph.graph.tensors[constant].shape = [1]
    return schema.OperatorT(
        opcodeIndex=tflite_file.op_code(graph.parsed, name, 1),
        inputs=[source, constant],
        outputs=[target],
        builtinOptionsType=schema.BuiltinOptions.MaximumMinimumOptions,
        builtinOptions=schema.MaximumMinimumOptionsT(),
    )
