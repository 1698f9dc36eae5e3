"""What really is in a .tflite file, whatever its name claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bundle.manifest import Profile, Quantization, Signature, TensorSpec
from finetune.errors import GateRefused
from finetune.export import tflite_file

_SMALL = 1024  # bytes; shapes, axes and the like are not weights
_SHARE = 0.9  # a few percent of the weights have another dtype: biases, and what is too small
_CONVERSIONS = ("DEQUANTIZE", "QUANTIZE")
_CHANNELLED = ("CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Content:
    """Ops and constants of a model, over all its signatures."""

    min_runtime: str  # the oldest TFLite that has every op version used
    ops: dict[str, int]  # "FULLY_CONNECTED/12" → uses
    weight_dtypes: dict[str, int]  # dtype → bytes of constants
    float_ops: dict[str, int]  # ops without an int8 input that give floats → uses
    int8_ops: dict[str, int] = field(default_factory=dict)  # int8 from computed int8 → uses
    float_tensors: int = 0  # computed ones, or inputs
    whole_weights: int = 0  # int8 matrices and kernels with one scale for all their channels


def inspect(model: bytes) -> Content:
    """Reads a TFLite flatbuffer."""
    parsed = tflite_file.parse(model)
    runtime = tflite_file.min_runtime(parsed)
    if runtime is None:
        raise GateRefused("the converter did not write the oldest runtime that has the model's ops")
    ops: Counter[str] = Counter()
    floats: Counter[str] = Counter()
    integers: Counter[str] = Counter()
    for graph, operator in _operators(parsed):
        code = parsed.operatorCodes[operator.opcodeIndex]
        name = tflite_file.OP_NAMES[code.builtinCode]
        ops[f"{name}/{code.version}"] += 1
        if name in _CONVERSIONS:
            continue
        floats[name] += _is_float(graph, operator)
        integers[name] += _is_int8(parsed, graph, operator)
    return Content(
        min_runtime=runtime,
        ops=dict(sorted(ops.items())),
        weight_dtypes=_weights(parsed),
        float_ops=dict(sorted((+floats).items())),
        int8_ops=dict(sorted((+integers).items())),
        float_tensors=_float_tensors(parsed),
        whole_weights=sum(_is_whole(parsed, *each) for each in _operators(parsed)),
    )


def check_profile(content: Content, profile: Profile) -> None:
    """Refuses a model that is not what the profile's name promises.

    Raises:
        GateRefused: names the profile, what it promises and what was found.
    """
    promised = {"float32": "float32", "float16": "float16"}.get(profile, "int8")
    found = content.weight_dtypes
    if found.get(promised, 0) <= _SHARE * sum(found.values()):
        raise GateRefused(
            f"profile {profile} promises {promised} weights, the converted model has {found} bytes"
        )
    broken = next(_broken(content, profile), None)
    if broken:
        raise GateRefused(f"profile {profile} promises {broken}")


def signatures(model: bytes) -> dict[str, Signature]:
    """The signatures of a file, with the dtypes and scales that its tensors really have."""
    parsed = tflite_file.parse(model)
    found = {}
    for each in parsed.signatureDefs:
        graph = parsed.subgraphs[each.subgraphIndex]
        found[each.signatureKey.decode()] = Signature(
            inputs=tuple(_specs(graph, each.inputs)), outputs=tuple(_specs(graph, each.outputs))
        )
    return found


def _broken(content: Content, profile: Profile) -> Iterator[str]:
    """What a profile promises of the computation and the model does not keep."""
    static = profile in ("full_int8", "mixed_int8")
    if static and not content.int8_ops:
        yield "int8 activations, no op of the converted model computes with them"
    if static and content.whole_weights:
        yield f"a scale for each channel, {content.whole_weights} weights have one for all"
    if not static and content.int8_ops:
        yield f"float activations, the converted model computes {content.int8_ops} in int8"
    if profile == "full_int8" and content.float_tensors:
        yield f"no float, {content.float_tensors} tensors hold them: {content.float_ops}"
    if profile == "mixed_int8" and not content.float_ops:
        yield "islands of float, the converted model has none; call it full_int8"


def _specs(graph: Any, tensors: Any) -> Iterator[TensorSpec]:
    for each in sorted(tensors, key=lambda one: one.name):
        tensor = graph.tensors[each.tensorIndex]
        yield TensorSpec(
            name=each.name.decode(),
            dtype=tflite_file.dtype(tensor),
            shape=tuple(int(size) for size in tensor.shape),
            quantization=_quantization(tensor),
        )


def _quantization(tensor: Any) -> Quantization | None:
    found = tensor.quantization
    if found is None or found.scale is None or len(found.scale) != 1:
        return None
    return Quantization(scale=float(found.scale[0]), zero_point=int(found.zeroPoint[0]))


def _operators(parsed: Any) -> Iterator[tuple[Any, Any]]:
    for graph in parsed.subgraphs:
        for operator in graph.operators:
            yield graph, operator


def _dtypes(graph: Any, indices: Any) -> set[str]:
    return {tflite_file.dtype(graph.tensors[index]) for index in indices if index >= 0}


def _is_float(graph: Any, operator: Any) -> bool:
    gives, takes = _dtypes(graph, operator.outputs), _dtypes(graph, operator.inputs)
    return "float32" in gives and "int8" not in takes


def _is_int8(parsed: Any, graph: Any, operator: Any) -> bool:
    computed = [each for each in operator.inputs if not _is_constant(parsed, graph, each)]
    return "int8" in _dtypes(graph, operator.outputs) and "int8" in _dtypes(graph, computed)


def _is_whole(parsed: Any, graph: Any, operator: Any) -> bool:
    if tflite_file.op_name(parsed, operator) not in _CHANNELLED:
        return False
    weights = graph.tensors[operator.inputs[1]]
    is_int8 = tflite_file.dtype(weights) == "int8"
    constant = _is_constant(parsed, graph, operator.inputs[1])
    return is_int8 and constant and weights.shape[0] > 1 and len(weights.quantization.scale) == 1


def _is_constant(parsed: Any, graph: Any, index: int) -> bool:
    data = parsed.buffers[graph.tensors[index].buffer].data if index >= 0 else ()
    return data is not None and len(data) > 0


def _float_tensors(parsed: Any) -> int:
    found = 0
    for graph in parsed.subgraphs:
        computed = {index for each in graph.operators for index in each.outputs} | set(graph.inputs)
        found += sum(tflite_file.dtype(graph.tensors[index]) == "float32" for index in computed)
    return found


def _weights(parsed: Any) -> dict[str, int]:
    sizes: dict[int, tuple[str, int]] = {}  # signatures share buffers: count each once
    for graph in parsed.subgraphs:
        for tensor in graph.tensors:
            data = parsed.buffers[tensor.buffer].data
            if data is not None and len(data) > _SMALL:
                sizes[tensor.buffer] = (tflite_file.dtype(tensor), len(data))
    total: Counter[str] = Counter()
    for dtype, size in sizes.values():
        total[dtype] += size
    return dict(total.most_common())
