"""A float TFLite file → static int8: weights, activations and what lies between.

    int8 op ─► int8 op ─► int8 op        and around an island, an op that stays float:

    int8 op ─DEQUANTIZE─► float op ─QUANTIZE─► int8 op

Weights have a scale for each output channel, activations one for each tensor. Every op gets the
version of its int8 kernel, so that a runtime without it refuses the file instead of answering
wrongly.

Source:
    Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, section 2 (arXiv 1712.05877); TFLite's 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from finetune.errors import ExportError
from finetune.export import tflite_file
from finetune.export.int8_scales import MOVES, PIXELS, Scale, Scales, takes_pixels
from finetune.export.ranges import Place, Range, places
from finetune.export.tflite_file import Subgraph

# Op → the version of its int8 kernel.
KERNELS = {
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
    "PAD": 2,
    "RELU": 2,
    "RESHAPE": 1,
    "RSQRT": 2,
    "SELECT_V2": 1,
    "SLICE": 2,
    "SOFTMAX": 2,
    "SPLIT": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "TANH": 2,
    "TRANSPOSE": 2,
}
_CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # axis of the weights
_MOST_BIAS = 2.0**30  # steps, of an int32
_MIN_RUNTIME = (2, 5, 0)  # has those of these versions that are newer than their float twins


def quantize(model: bytes, ranges: Mapping[Place, Range], islands: Collection[str] = ()) -> bytes:
    """The model in int8.

    Args:
        model: float32, of static shapes.
        ranges: of what its ops give; see `ranges`.
        islands: names of ops that stay float; without any, nothing does.

    Raises:
        ExportError: an op has no int8 kernel, or no range is known of what it gives.
    """
    parsed = tflite_file.parse(model)
    buffers = _Buffers(parsed)
    for number, (graph, located) in enumerate(zip(parsed.subgraphs, places(parsed), strict=True)):
        known = {tensor: ranges[place] for tensor, place in located.items() if place in ranges}
        outputs = _Rewriter(Subgraph(parsed, graph), buffers, known, islands).run()
        tflite_file.replace_outputs(parsed, number, outputs)
    tflite_file.prune(parsed)
    tflite_file.raise_min_runtime(parsed, _MIN_RUNTIME)
    return tflite_file.pack(parsed)


def without_kernel(model: bytes) -> tuple[str, ...]:
    """The ops of a float model that have no int8 kernel, by name, sorted."""
    parsed = tflite_file.parse(model)
    found: set[str] = set()
    for graph in parsed.subgraphs:
        subgraph = Subgraph(parsed, graph)
        found |= {
            name
            for index, name in enumerate(subgraph.names)
            if _is_float(subgraph, index) and not _has_kernel(subgraph, index)
        }
    return tuple(sorted(found))


def _is_float(subgraph: Subgraph, index: int) -> bool:
    """Whether an op computes with float variables, not with ids and masks."""
    operator = subgraph.graph.operators[index]
    return not subgraph.variables.isdisjoint((*operator.inputs, *operator.outputs))


def _has_kernel(subgraph: Subgraph, index: int) -> bool:
    return takes_pixels(subgraph, index) or subgraph.names[index] in KERNELS


class _Buffers:
    """Quantized constants, written once for all signatures."""

    def __init__(self, parsed: Any) -> None:
        self._parsed = parsed
        self._written: dict[tuple[int, bytes], int] = {}

    def add(self, source: int, values: NDArray[Any]) -> int:
        """The buffer of `values`, which were made from the buffer `source`."""
        content = values.tobytes()
        if (source, content) not in self._written:
            self._parsed.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
            self._written[source, content] = len(self._parsed.buffers) - 1
        return self._written[source, content]


class _Rewriter:
    """Rewrites one subgraph in place."""

    def __init__(
        self,
        subgraph: Subgraph,
        buffers: _Buffers,
        ranges: Mapping[int, Range],
        islands: Collection[str],
    ) -> None:
        self._subgraph, self._graph = subgraph, subgraph.graph
        self._buffers, self._islands = buffers, islands
        self._int8 = {index for index in range(len(subgraph.names)) if self._is_int8(index)}
        self._scales = Scales(subgraph, self._int8, ranges)
        self._as: dict[str, dict[int, int]] = {"int8": {}, "float32": {}}  # variable → its form
        self._written: list[Any] = []

    def run(self) -> dict[int, int]:
        """Rewrites every operator.

        Returns:
            Output tensor → the one that takes its place.
        """
        graph = self._graph
        self._as["float32"] = {index: index for index in graph.inputs}
        for index, operator in enumerate(graph.operators):
            if index in self._scales.idle:
                source = self._scales.summands(operator)[0]
                self._as["int8"][operator.outputs[0]] = self._form(source, "int8")
            elif index in self._int8:
                self._write_int8(index, operator)
            else:
                operator.inputs = [self._form(tensor, "float32") for tensor in operator.inputs]
                self._as["float32"] |= {tensor: tensor for tensor in operator.outputs}
                self._written.append(operator)
        outputs = {tensor: self._output(tensor) for tensor in graph.outputs}
        graph.outputs = [outputs[tensor] for tensor in graph.outputs]
        graph.operators = self._written
        return outputs

    def _is_int8(self, index: int) -> bool:
        name = self._subgraph.names[index]
        if not _is_float(self._subgraph, index):
            return False
        # An op that takes a picture's pixels in is int8, whatever stays float.
        stays = name in self._islands and not takes_pixels(self._subgraph, index)
        if _has_kernel(self._subgraph, index) and not stays:
            return True
        if not self._islands:
            raise ExportError(f"int8: {name} has no int8 kernel; use mixed_int8 or dynamic_int8")
        return False

    def _write_int8(self, index: int, operator: Any) -> None:
        operands = [
            self._operand(index, place, tensor) for place, tensor in enumerate(operator.inputs)
        ]
        for tensor in self._subgraph.variables.intersection(operator.outputs):
            self._subgraph.retype(tensor, "int8", _scaling(self._scales.of(tensor)))
            self._as["int8"][tensor] = tensor
        if takes_pixels(self._subgraph, index):
            (pixels,) = operands
            self._graph.tensors[pixels].quantization = tflite_file.quantization([PIXELS.step], [0])
            operator = self._subgraph.conversion("QUANTIZE", pixels, operator.outputs[0])
        else:
            operator.inputs = operands
            version = self._version(self._subgraph.names[index], operator)
            name = self._subgraph.names[index]
            operator.opcodeIndex = tflite_file.op_code(self._subgraph.parsed, name, version)
        self._written.append(operator)

    def _version(self, name: str, operator: Any) -> int:
        if name == "FULLY_CONNECTED" and len(operator.inputs) == 2:
            return 6
        if name == "FULLY_CONNECTED" and operator.builtinOptions.keepNumDims:
            return 5
        if name == "MUL":
            first, second, product = (
                float(self._graph.tensors[index].quantization.scale[0])
                for index in (*operator.inputs, *operator.outputs)
            )
            if first * second >= product:
                return 3
        return KERNELS[name]

    def _operand(self, index: int, place: int, tensor: int) -> int:
        """The int8 form of an input; the input itself if it is no float."""
        if tensor in self._subgraph.variables:
            return self._form(tensor, "int8")
        if tensor not in self._subgraph.constants:
            return tensor
        name, operator = self._subgraph.names[index], self._graph.operators[index]
        if name in _CHANNELS:
            return self._weights(operator, place, _CHANNELS[name])
        scale = self._scales.of(operator.outputs[0] if name in MOVES else tensor)
        values = scale.quantize(self._subgraph.constants[tensor])
        return self._constant(tensor, values, _scaling(scale))

    def _weights(self, operator: Any, place: int, axis: int) -> int:
        """Weights with a scale for each channel, or the bias in steps of their products."""
        weights = self._subgraph.constants[operator.inputs[1]]
        bias = self._subgraph.constants.get(operator.inputs[2], 0.0)  # -1: it has none
        source = self._scales.of(operator.inputs[0]).step
        others = tuple(each for each in range(weights.ndim) if each != axis)
        # The second keeps the bias of a channel of hardly any weight inside an int32.
        steps = np.maximum(np.abs(weights).max(others) / 127, np.abs(bias) / source / _MOST_BIAS)
        steps = np.maximum(steps, 1e-9).astype(np.float32)
        tensor, zeros = operator.inputs[place], [0] * len(steps)
        if place == 2:
            products = steps * np.float32(source)
            counts = np.round(bias / products.astype(np.float64)).astype(np.int32)
            return self._constant(tensor, counts, tflite_file.quantization(products, zeros))
        values = np.clip(np.round(weights / np.expand_dims(steps, others)), -127, 127)
        scaling = tflite_file.quantization(steps, zeros, axis)
        return self._constant(tensor, values.astype(np.int8), scaling)

    def _constant(self, tensor: int, values: NDArray[Any], scaling: Any) -> int:
        buffer = self._buffers.add(self._graph.tensors[tensor].buffer, values)
        return self._subgraph.tensor(tensor, values.dtype.name, scaling, buffer)

    def _form(self, tensor: int, kind: str) -> int:
        """The tensor that holds a variable as int8 or float32, converted if need be."""
        if tensor not in self._subgraph.variables:
            return tensor
        forms = self._as[kind]
        if tensor not in forms:
            if kind == "int8":
                forms[tensor] = self._subgraph.tensor(
                    tensor, kind, _scaling(self._scales.of(tensor))
                )
                self._convert("QUANTIZE", self._as["float32"][tensor], forms[tensor])
            else:
                forms[tensor] = self._subgraph.tensor(tensor, kind, None)
                self._convert("DEQUANTIZE", self._as["int8"][tensor], forms[tensor])
        return forms[tensor]

    def _convert(self, name: str, source: int, target: int) -> None:
        self._written.append(self._subgraph.conversion(name, source, target))

    def _output(self, tensor: int) -> int:
        """What the subgraph gives: floats if it has islands, bytes if it takes bytes, else int8."""
        if self._islands:
            return self._form(tensor, "float32")
        held = self._form(tensor, "int8")
        dtypes = {tflite_file.dtype(self._graph.tensors[index]) for index in self._graph.inputs}
        if dtypes != {"uint8"}:
            return held
        scale = self._scales.of(tensor)
        given = self._subgraph.tensor(
            tensor, "uint8", tflite_file.quantization([scale.step], [scale.zero + 128])
        )
        self._convert("QUANTIZE", held, given)
        return given


def _scaling(scale: Scale) -> Any:
    return tflite_file.quantization([scale.step], [scale.zero])
