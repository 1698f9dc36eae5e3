"""Outlier channels, moved from what a norm gives into the weights of the products that read it.

    … ─► · gain ─► + shift ─┬─► FULLY_CONNECTED          … ─► · gain/s ─► + shift/s ─┬─► · (W s)
                            └─► all others                                           └─► · s ─► …

A converter may have moved the shift into a product's bias, which then reads what the gain gives.

A few channels that are larger than the rest take the steps of all others, since an activation has
one int8 scale; weights have one for each output, so that they bear a little more. In float nothing
changes. What reads the norm without a product, such as a residual sum, gets it multiplied back.

Source:
    Xiao et al.: SmoothQuant, equation 4, with a strength of 1/2 (arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from finetune.export import ranges, tflite_file
from finetune.export.ranges import Place, Samples, places
from finetune.export.tflite_file import Subgraph
from finetune.progress import Progress

Floats = NDArray[np.float32]

_SMALLEST = 1e-5  # of a channel or a column of weights


class _Norm(NamedTuple):
    """A norm's last steps in a subgraph, and who reads what they give."""

    steps: list[Any]  # the MUL, and the ADD if there is one
    products: list[Any]  # FULLY_CONNECTED
    others: list[tuple[int, list[Any]]]  # of what a step gives, all others that read it


def peaks(model: bytes, samples: Samples, progress: Progress) -> dict[Place, Floats]:
    """The largest size of each channel that a norm gives to products: float32 [channels]."""
    parsed = tflite_file.parse(model)
    located = places(parsed)[0]
    norms = _norms(Subgraph(parsed, parsed.subgraphs[0]))
    wanted = {located[each.inputs[0]] for norm in norms for each in norm.products}
    found: dict[Place, Floats] = {}
    for place, values in ranges.flowing(model, samples, progress):
        if place in wanted:
            each = np.abs(values).reshape(-1, values.shape[-1]).max(0)
            found[place] = np.maximum(found.get(place, each), each)
    return found


def migrate(model: bytes, known: Mapping[Place, Floats]) -> bytes:
    """The same function with its outlier channels moved; the model itself if it has no norm.

    Args:
        known: what `peaks` gave.
    """
    parsed = tflite_file.parse(model)
    written: dict[tuple[int, bytes], int] = {}  # scaled constants, once for all subgraphs
    for graph, located in zip(parsed.subgraphs, places(parsed), strict=True):
        subgraph = Subgraph(parsed, graph)
        for norm in _norms(subgraph):
            places_read = {located[each.inputs[0]] for each in norm.products}
            if places_read <= known.keys():
                peak = np.max([known[place] for place in places_read], axis=0)
                _Migration(subgraph, written, norm).run(peak)
    tflite_file.prune(parsed)
    return tflite_file.pack(parsed)


class _Migration:
    """Of one norm."""

    def __init__(
        self, subgraph: Subgraph, written: dict[tuple[int, bytes], int], norm: _Norm
    ) -> None:
        self._subgraph, self._written, self._norm = subgraph, written, norm

    def run(self, peak: Floats) -> None:
        norm, constants = self._norm, self._subgraph.constants
        columns = np.max(
            [np.abs(constants[each.inputs[1]]).max(0) for each in norm.products], axis=0
        )
        scale = np.sqrt(np.maximum(peak, _SMALLEST) / np.maximum(columns, _SMALLEST))
        scale = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
        for step in norm.steps:
            self._rescale(step, _constant(self._subgraph, step), 1 / scale)
        for product in norm.products:
            self._rescale(product, 1, scale)
        for output, readers in norm.others:
            self._restore(output, readers, scale)

    def _rescale(self, operator: Any, place: int, scale: Floats) -> None:
        tensor = operator.inputs[place]
        values = self._subgraph.constants[tensor] * scale
        operator.inputs = [*operator.inputs]
        operator.inputs[place] = self._constant(tensor, values.astype(np.float32))

    def _restore(self, output: int, readers: list[Any], scale: Floats) -> None:
        graph = self._subgraph.graph
        restored = self._subgraph.tensor(output, "float32", None)
        factor = self._constant(output, scale)
        multiply = schema.OperatorT(
            opcodeIndex=tflite_file.op_code(self._subgraph.parsed, "MUL", 1),
            inputs=[output, factor],
            outputs=[restored],
            builtinOptionsType=schema.BuiltinOptions.MulOptions,
            builtinOptions=schema.MulOptionsT(),
        )
        for operator in readers:
            operator.inputs = [restored if each == output else each for each in operator.inputs]
        place = next(at for at, each in enumerate(graph.operators) if output in each.outputs)
        graph.operators.insert(place + 1, multiply)

    def _constant(self, like: int, values: Floats) -> int:
        parsed, content = self._subgraph.parsed, values.tobytes()
        key = (self._subgraph.graph.tensors[like].buffer, content)
        if key not in self._written:
            parsed.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
            self._written[key] = len(parsed.buffers) - 1
        tensor = self._subgraph.tensor(like, "float32", None, self._written[key])
        self._subgraph.graph.tensors[tensor].shape = list(values.shape)
        self._subgraph.constants[tensor] = values
        return tensor


def _norms(subgraph: Subgraph) -> list[_Norm]:
    """Every RSQRT · x · gain (+ shift) that products with weights read."""
    graph = subgraph.graph
    readers: dict[int, list[Any]] = {}
    for operator in graph.operators:
        for tensor in set(operator.inputs):
            readers.setdefault(tensor, []).append(operator)
    names = {id(each): name for each, name in zip(graph.operators, subgraph.names, strict=True)}
    inverse = {each.outputs[0] for each in graph.operators if names[id(each)] == "RSQRT"}
    scaled = {
        each.outputs[0]
        for each in graph.operators
        if names[id(each)] == "MUL" and not inverse.isdisjoint(each.inputs)
    }
    found = []
    for gain in graph.operators:
        if names[id(gain)] != "MUL" or not _has_channels(subgraph, gain):
            continue
        if scaled.isdisjoint(gain.inputs):
            continue
        after = readers.get(gain.outputs[0], [])
        shifts = [each for each in after if names[id(each)] == "ADD"]
        steps = [gain, *(each for each in shifts if _has_channels(subgraph, each))]
        norm = _readers(subgraph, names, steps, readers)
        if norm.products and len(steps) <= 2:
            found.append(norm)
    return found


def _readers(subgraph: Subgraph, names: Any, steps: list[Any], readers: Any) -> _Norm:
    products: list[Any] = []
    others = []
    for step in steps:
        output = step.outputs[0]
        rest = []
        for each in readers.get(output, []):
            is_product = names[id(each)] == "FULLY_CONNECTED" and each.inputs[0] == output
            if is_product and each.inputs[1] in subgraph.constants:
                products.append(each)
            elif not any(each is one for one in steps):
                rest.append(each)
        if rest:
            others.append((output, rest))
    return _Norm(steps, products, others)


def _has_channels(subgraph: Subgraph, operator: Any) -> bool:
    """Whether one of its inputs is a constant for each channel."""
    constants = [subgraph.constants[each] for each in operator.inputs if each in subgraph.constants]
    return len(constants) == 1 and constants[0].ndim == 1


def _constant(subgraph: Subgraph, operator: Any) -> int:
    """Which input of an operator that has one is a constant."""
    return next(place for place, each in enumerate(operator.inputs) if each in subgraph.constants)
