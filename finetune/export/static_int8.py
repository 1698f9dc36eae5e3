"""A float TFLite file → static int8: weights, activations and what lies between.

    int8 op ─► int8 op ─► int8 op        and around an island, an op that stays float:

    int8 op ─DEQUANTIZE─► float op ─QUANTIZE─► int8 op

A product with weights that is an island keeps them in int8, and rounds what it takes anew each
time: it is dynamic int8. Weights have a scale for each output channel, activations one for each
tensor.

Source:
    Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, section 2 (arXiv 1712.05877); TFLite's 8-bit quantization specification.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from finetune.errors import ExportError
from finetune.export import int8_kernels, tflite_file
from finetune.export.int8_scales import JOINS, MOVES, PIXELS, Scale, Scales, takes_pixels
from finetune.export.ranges import Place, Range, places
from finetune.export.tflite_file import Subgraph

_CHANNELS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}  # axis of the weights
_MOST_BIAS = 2.0**30  # steps, of an int32


def quantize(model: bytes, ranges: Mapping[Place, Range], islands: Collection[str] = ()) -> bytes:
    """The model in int8.

    Args:
        model: float32, of static shapes.
        ranges: of what its ops give; see `ranges`.
        islands: ops that stay float, each by its name, or by that and a part of the path to it in
            the graph, `FULLY_CONNECTED:lm_head`; without any, nothing does.

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
    tflite_file.raise_min_runtime(parsed, int8_kernels.min_runtime(parsed))
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
    return takes_pixels(subgraph, index) or subgraph.names[index] in int8_kernels.VERSIONS


def _is_island(subgraph: Subgraph, index: int, islands: Collection[str]) -> bool:
    """Whether an op is among those that stay float; see `quantize`."""
    name, operator = subgraph.names[index], subgraph.graph.operators[index]
    path = subgraph.graph.tensors[operator.outputs[0]].name.decode()
    return name in islands or any(f"{name}:{part}" in islands for part in re.split("[/;]", path))


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
        for tensor in graph.inputs:
            self._take(tensor)
        for index, operator in enumerate(graph.operators):
            if index in self._scales.idle:
                source = self._scales.summands(operator)[0]
                self._as["int8"][operator.outputs[0]] = self._form(source, "int8")
            elif index in self._int8:
                self._write_int8(index, operator)
            else:
                self._write_float(index, operator)
        outputs = {tensor: self._output(tensor) for tensor in graph.outputs}
        graph.outputs = [outputs[tensor] for tensor in graph.outputs]
        graph.operators = self._written
        return outputs

    def _is_int8(self, index: int) -> bool:
        name = self._subgraph.names[index]
        if not _is_float(self._subgraph, index):
            return False
        # An op that takes a picture's pixels in is int8, whatever stays float.
        stays = not takes_pixels(self._subgraph, index) and _is_island(
            self._subgraph, index, self._islands
        )
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
            name = self._subgraph.names[index]
            int8_kernels.check(name, operator, self._graph)
            version = int8_kernels.version(name, operator, self._graph)
            operator.opcodeIndex = tflite_file.op_code(self._subgraph.parsed, name, version)
        self._written.append(operator)

    def _write_float(self, index: int, operator: Any) -> None:
        operator.inputs = [self._form(tensor, "float32") for tensor in operator.inputs]
        self._as["float32"] |= {tensor: tensor for tensor in operator.outputs}
        name, weights = self._subgraph.names[index], self._subgraph.constants
        if name == "FULLY_CONNECTED" and operator.inputs[1] in weights:
            steps = _steps(weights[operator.inputs[1]], 0)
            operator.inputs[1] = self._kernel(operator.inputs[1], steps, 0)
            operator.builtinOptions.asymmetricQuantizeInputs = True
            version = int8_kernels.DYNAMIC_PRODUCT
            operator.opcodeIndex = tflite_file.op_code(self._subgraph.parsed, name, version)
        self._written.append(operator)

    def _operand(self, index: int, place: int, tensor: int) -> int:
        """The int8 form of an input; the input itself if it is no float."""
        name, operator = self._subgraph.names[index], self._graph.operators[index]
        if tensor in self._subgraph.variables:
            held = self._form(tensor, "int8")
            if name not in JOINS:
                return held
            scales = (self._scales.of(each) for each in (tensor, operator.outputs[0]))
            return self._rescaled(held, *scales)
        if tensor not in self._subgraph.constants:
            return tensor
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
        # The second keeps the bias of a channel of hardly any weight inside an int32.
        steps = np.maximum(_steps(weights, axis), np.abs(bias) / source / _MOST_BIAS)
        steps = steps.astype(np.float32)
        if place == 2:
            products = steps * np.float32(source)
            counts = np.round(bias / products.astype(np.float64)).astype(np.int32)
            scaling = tflite_file.quantization(products.tolist(), [0] * len(steps))
            return self._constant(operator.inputs[2], counts, scaling)
        return self._kernel(operator.inputs[1], steps, axis)

    def _kernel(self, tensor: int, steps: NDArray[np.float32], axis: int) -> int:
        """Weights in steps of their channels."""
        weights = self._subgraph.constants[tensor]
        values = np.clip(
            np.round(weights / np.expand_dims(steps, _others(weights, axis))), -127, 127
        )
        scaling = tflite_file.quantization(steps.tolist(), [0] * len(steps), axis)
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

    def _rescaled(self, source: int, known: Scale, wanted: Scale) -> int:
        """An int8 tensor in another scale."""
        if known == wanted:
            return source
        target = self._subgraph.tensor(source, "int8", _scaling(wanted))
        self._convert("QUANTIZE", source, target)
        return target

    def _convert(self, name: str, source: int, target: int) -> None:
        self._written.append(self._subgraph.conversion(name, source, target))

    def _take(self, tensor: int) -> None:
        """Takes floats if there are islands, else int8 of the tensor's own range."""
        if tensor not in self._subgraph.variables:
            return
        if self._islands:
            self._as["float32"][tensor] = tensor
            return
        own = self._scales.alone(tensor)
        self._subgraph.retype(tensor, "int8", _scaling(own))
        self._as["int8"][tensor] = self._rescaled(tensor, own, self._scales.of(tensor))

    def _output(self, tensor: int) -> int:
        """What the subgraph gives: floats if it has islands, bytes if it takes bytes, else int8."""
        if self._islands:
            return self._form(tensor, "float32")
        held, scale = self._form(tensor, "int8"), self._scales.of(tensor)
        dtypes = {tflite_file.dtype(self._graph.tensors[index]) for index in self._graph.inputs}
        if dtypes != {"uint8"}:
            return self._rescaled(held, scale, self._scales.alone(tensor))
        given = self._subgraph.tensor(
            tensor, "uint8", tflite_file.quantization([scale.step], [scale.zero + 128])
        )
        self._convert("QUANTIZE", held, given)
        return given


def _steps(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """The finest steps that hold each channel's weights."""
    largest = np.abs(weights).max(_others(weights, axis))
    return np.asarray(np.maximum(largest / 127, 1e-9), np.float32)


def _others(weights: NDArray[np.float32], axis: int) -> tuple[int, ...]:
    return tuple(each for each in range(weights.ndim) if each != axis)


def _scaling(scale: Scale) -> Any:
    return tflite_file.quantization([scale.step], [scale.zero])
