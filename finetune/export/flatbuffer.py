"""What really is in a .tflite file, whatever its name claims."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from bundle.manifest import Profile
from finetune.errors import GateRefused

_MIN_RUNTIME = b"min_runtime_version"
_SMALL = 1024  # bytes; shapes, axes and the like are not weights


@dataclass(frozen=True)
class Content:
    """Ops and constants of a model, over all its signatures."""

    min_runtime: str  # the oldest TFLite that has every op version used
    ops: dict[str, int]  # "FULLY_CONNECTED/12" → uses
    weight_dtypes: dict[str, int]  # dtype → bytes of constants
    float_ops: dict[str, int]  # ops without an int8 input that give floats → uses


def inspect(model: bytes) -> Content:
    """Reads a TFLite flatbuffer."""
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    ops: Counter[str] = Counter()
    floats: Counter[str] = Counter()
    for graph in parsed.subgraphs:
        for operator in graph.operators:
            code = parsed.operatorCodes[operator.opcodeIndex]
            name = _OP_NAMES[code.builtinCode]
            ops[f"{name}/{code.version}"] += 1
            if _is_float(graph, operator) and name != "DEQUANTIZE":
                floats[name] += 1
    return Content(
        min_runtime=_min_runtime(parsed),
        ops=dict(sorted(ops.items())),
        weight_dtypes=_weights(parsed),
        float_ops=dict(sorted(floats.items())),
    )


def check_profile(content: Content, profile: Profile) -> None:
    """Refuses a model whose weights are not of the dtype that the profile's name promises.

    Raises:
        GateRefused: names the profile and the bytes of each dtype.
    """
    promised = {"float32": "float32", "float16": "float16"}.get(profile, "int8")
    found = content.weight_dtypes
    # A few percent stay float in every profile: biases, norms, and what no kernel takes in int8.
    if found.get(promised, 0) <= 0.9 * sum(found.values()):
        raise GateRefused(
            f"profile {profile} promises {promised} weights, the converted model has {found} bytes"
        )


def _is_float(graph: Any, operator: Any) -> bool:
    def dtypes(indices: Any) -> set[str]:
        return {_DTYPE_NAMES[graph.tensors[index].type] for index in indices if index >= 0}

    return "float32" in dtypes(operator.outputs) and "int8" not in dtypes(operator.inputs)


def _weights(parsed: Any) -> dict[str, int]:
    sizes: dict[int, tuple[str, int]] = {}  # signatures share buffers: count each once
    for graph in parsed.subgraphs:
        for tensor in graph.tensors:
            data = parsed.buffers[tensor.buffer].data
            if data is not None and len(data) > _SMALL:
                sizes[tensor.buffer] = (_DTYPE_NAMES[tensor.type], len(data))
    total: Counter[str] = Counter()
    for dtype, size in sizes.values():
        total[dtype] += size
    return dict(total.most_common())


def _min_runtime(parsed: Any) -> str:
    for entry in parsed.metadata or []:
        if entry.name == _MIN_RUNTIME:
            return bytes(parsed.buffers[entry.buffer].data).split(b"\0")[0].decode()
    raise GateRefused("the converter did not write the oldest runtime that has the model's ops")


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


_OP_NAMES = _names(schema.BuiltinOperator)
_DTYPE_NAMES = {value: name.lower() for value, name in _names(schema.TensorType).items()}
