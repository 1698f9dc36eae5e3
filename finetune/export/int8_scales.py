"""Which int8 stands for which number: a scale for each tensor, as the kernels ask."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.errors import ExportError
from finetune.export import tflite_file
from finetune.export.ranges import Range
from finetune.export.tflite_file import Subgraph

# Ops that only move numbers: what goes in and what comes out have one scale.
MOVES = {
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "EXPAND_DIMS",
    "GATHER",
    "MAX_POOL_2D",
    "ONE_HOT",
    "PACK",
    "PAD",
    "RESHAPE",
    "SELECT_V2",
    "SLICE",
    "SPLIT",
    "SPLIT_V",
    "SQUEEZE",
    "STRIDED_SLICE",
    "TILE",
    "TOPK_V2",
    "TRANSPOSE",
}
# Of these, what unlike tensors have become: each of them comes to it in a scale of its own.
JOINS = {"CONCATENATION"}
_PRODUCTS = ("BATCH_MATMUL", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Scale:
    """number = step · (int8 − zero)."""

    step: float
    zero: int

    @classmethod
    def of(cls, known: Range, *, symmetric: bool = False) -> Scale:
        """The finest one that holds a range and 0."""
        low, high = min(0.0, known.low), max(0.0, known.high)
        if symmetric:
            return cls(_float32(max(high, -low) / 127), 0)
        step = _float32((high - low) / 255)
        return cls(step, int(np.clip(np.round(-128 - low / step), -128, 127)))

    def quantize(self, values: NDArray[Any]) -> NDArray[np.int8]:
        """The nearest int8."""
        steps = np.round(np.asarray(values, np.float64) / self.step)
        return np.clip(steps + self.zero, -128, 127).astype(np.int8)


PIXELS = Scale(1.0, -128)  # 0 to 255, as they come
_FIXED = {  # what the kernels of these ops give
    "LOGISTIC": Scale(1 / 256, -128),
    "SOFTMAX": Scale(1 / 256, -128),
    "TANH": Scale(1 / 128, 0),
}


class Scales:
    """The scales of a subgraph's tensors.

    Args:
        subgraph: float.
        int8: which of its operators become int8.
        ranges: of the tensors that they give.

    Raises:
        ExportError: no range is known of one of them.
    """

    def __init__(
        self, subgraph: Subgraph, int8: Collection[int], ranges: Mapping[int, Range]
    ) -> None:
        self._subgraph, self._ranges = subgraph, ranges
        self.idle = {index for index in int8 if self._adds_nothing(index)}
        self._parents: dict[int, int] = {}
        self._tables: dict[int, NDArray[Any]] = {}  # what a lookup gives → where it looks
        self._symmetric: set[int] = set()
        self._fixed: dict[int, Scale] = {}
        for index in int8:
            self._constrain(index)
        self._chosen: dict[int, Scale] = {}

    def of(self, tensor: int) -> Scale:
        """A float tensor's scale, which it shares with those it is only moved from or to."""
        root = self._root(tensor)
        if root not in self._chosen:
            members = [each for each in (*self._parents, tensor) if self._root(each) == root]
            self._chosen[root] = self._choose(members)
        return self._chosen[root]

    def alone(self, tensor: int) -> Scale:
        """The scale of a tensor that shares it with no other: what goes in and out of a model."""
        return self._fixed.get(tensor) or Scale.of(self._range(tensor))

    def summands(self, operator: Any) -> tuple[int, int]:
        """Those of an ADD, a constant one last."""
        first, second = operator.inputs
        return (second, first) if first in self._subgraph.constants else (first, second)

    def _adds_nothing(self, index: int) -> bool:
        """Whether it adds a constant that no int8 step of the sum can show, such as an epsilon."""
        operator = self._subgraph.graph.operators[index]
        if self._subgraph.names[index] != "ADD":
            return False
        constant = self._subgraph.constants.get(self.summands(operator)[1])
        step = Scale.of(self._range(operator.outputs[0])).step
        return constant is not None and float(np.abs(constant).max()) < step / 2

    def _constrain(self, index: int) -> None:
        """Notes what an operator asks of the scales of its tensors."""
        name, operator = self._subgraph.names[index], self._subgraph.graph.operators[index]
        variables, output = self._subgraph.variables, operator.outputs[0]
        if index in self.idle:
            self._join(self.summands(operator)[0], output)
        elif name in MOVES - JOINS:
            for tensor in variables.intersection((*operator.inputs, *operator.outputs)):
                self._join(tensor, output)
            if name == "GATHER" and operator.inputs[0] in self._subgraph.constants:
                self._tables[output] = self._subgraph.constants[operator.inputs[0]]
        elif name in _FIXED:
            self._fixed[output] = _FIXED[name]
        elif name == "CAST":
            self._fixed[output] = PIXELS
        elif name in _PRODUCTS and operator.inputs[1] in variables:
            self._symmetric.add(operator.inputs[1])  # else XNNPACK leaves it to a slow kernel

    def _choose(self, members: Collection[int]) -> Scale:
        for tensor in members:
            if tensor in self._fixed:
                return self._fixed[tensor]
        known = [self._range(tensor) for tensor in members]
        known += [_extent(self._tables[tensor]) for tensor in members if tensor in self._tables]
        both = Range(min(each.low for each in known), max(each.high for each in known))
        return Scale.of(both, symmetric=not self._symmetric.isdisjoint(members))

    def _range(self, tensor: int) -> Range:
        if tensor in self._subgraph.constants:
            return _extent(self._subgraph.constants[tensor])
        if tensor not in self._ranges:
            name = self._subgraph.graph.tensors[tensor].name.decode()
            raise ExportError(f"int8: nothing was measured of {name}; calibrate with every length")
        return self._ranges[tensor]

    def _root(self, tensor: int) -> int:
        while self._parents.setdefault(tensor, tensor) != tensor:
            tensor = self._parents[tensor]
        return tensor

    def _join(self, first: int, second: int) -> None:
        self._parents[self._root(first)] = self._root(second)


def takes_pixels(subgraph: Subgraph, index: int) -> bool:
    """Whether an operator makes floats of a picture's bytes."""
    source = subgraph.graph.tensors[subgraph.graph.operators[index].inputs[0]]
    return subgraph.names[index] == "CAST" and tflite_file.dtype(source) == "uint8"


def _extent(values: NDArray[Any]) -> Range:
    return Range(float(values.min()), float(values.max()))


def _float32(step: float) -> float:
    """As the file holds it; never 0."""
    return float(np.float32(max(step, 1e-9)))
