"""Which int8 kernels TFLite has, and in which version of an op each came.

Every op gets the version of its int8 kernel, so that a runtime without it refuses the file instead
of answering wrongly.

Source:
    TFLite's `tools/versioning/op_version.cc` and `runtime_version.cc`.
"""

from __future__ import annotations

from typing import Any

from finetune.errors import ExportError
from finetune.export import tflite_file

VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "BATCH_MATMUL": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 4,
    "GATHER": 2,
    "GELU": 2,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "ONE_HOT": 1,
    "PACK": 2,
    "PAD": 2,
    "RELU": 2,
    "RESHAPE": 1,
    "RSQRT": 2,
    "SELECT_V2": 1,
    "SLICE": 2,
    "SOFTMAX": 2,
    "SPLIT": 2,
    "SPLIT_V": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "SUM": 2,
    "TANH": 2,
    "TILE": 3,
    "TOPK_V2": 2,
    "TRANSPOSE": 2,
}
DYNAMIC_PRODUCT = 12  # of FULLY_CONNECTED: int8 weights with a scale for each channel, float else

_SMALLEST = 1e-12  # step
_MOST_SUMMANDS = 2.0**20  # steps of the sum, that a step of a summand may be

_LEAST = (2, 5, 0)  # has those of these versions that are newer than their float twins
_LATER = {("FULLY_CONNECTED", DYNAMIC_PRODUCT): (2, 17, 0), ("TILE", 3): (2, 8, 0)}


def check(name: str, operator: Any, graph: Any) -> None:
    """Refuses what LiteRT's kernel would end the process for, instead of failing.

    Raises:
        ExportError: names the op and its scales.
    """
    scales = [_scale(graph, index) for index in (*operator.inputs, *operator.outputs)]
    known = [each for each in scales if each is not None]
    lost = name in ("ADD", "SUB") and 2 * max(known[:-1]) >= _MOST_SUMMANDS * known[-1]
    if lost or not all(_SMALLEST < each < 1 / _SMALLEST for each in known):
        raise ExportError(
            f"int8: {name}: its tensors have steps of {known}, too unlike for its kernel; use "
            "dynamic_int8"
        )


def version(name: str, operator: Any, graph: Any) -> int:
    """Of an operator whose tensors are int8 already."""
    if name == "FULLY_CONNECTED" and len(operator.inputs) == 2:
        return 6
    if name == "FULLY_CONNECTED" and operator.builtinOptions.keepNumDims:
        return 5
    if name == "MUL":
        first, second, product = (
            _scale(graph, index) for index in (*operator.inputs, *operator.outputs)
        )
        if first * second >= product:
            return 3
    return VERSIONS[name]


def min_runtime(parsed: Any) -> tuple[int, ...]:
    """The oldest TFLite that has the int8 kernels of a file."""
    used = {(tflite_file.OP_NAMES[each.builtinCode], each.version) for each in parsed.operatorCodes}
    return max([_LEAST, *(least for op, least in _LATER.items() if op in used)])


def _scale(graph: Any, index: int) -> Any:
    """The step of an int8 tensor's first channel; None of one that has none."""
    scaling = graph.tensors[index].quantization if index >= 0 else None
    return None if scaling is None or scaling.scale is None else float(scaling.scale[0])
