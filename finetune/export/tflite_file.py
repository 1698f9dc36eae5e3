"""A TFLite file taken apart, and put together again: what edits and reads it share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

_MIN_RUNTIME = b"min_runtime_version"
_MIN_RUNTIME_BYTES = 16


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


OP_NAMES = _names(schema.BuiltinOperator)
DTYPE_NAMES = {value: name.lower() for value, name in _names(schema.TensorType).items()}
_DTYPES = {name: value for value, name in DTYPE_NAMES.items()}


def parse(model: bytes) -> Any:
    """The file as mutable objects of its schema."""
    return schema.ModelT.InitFromPackedBuf(model, 0)


def pack(parsed: Any) -> bytes:
    """The file that `parsed` describes; equal scales of several tensors are written once.

    With six signatures and a scale for each channel they would be 6% of a small encoder.
    """
    written: dict[tuple[Any, ...], _Once] = {}
    for graph in parsed.subgraphs:
        for tensor in graph.tensors:
            if tensor.quantization is not None:
                once = _Once(tensor.quantization)
                tensor.quantization = written.setdefault(once.content, once)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Once:
    """Scales that are written once, however many tensors have them."""

    def __init__(self, record: Any) -> None:
        self._record = record
        fields = (value for _, value in sorted(vars(record).items()))
        self.content = tuple(
            None if each is None else np.asarray(each).tobytes() for each in fields
        )
        self._offset: int | None = None

    def Pack(self, builder: Any) -> int:  # noqa: N802 (as the schema's own records)
        """Where they are in the file."""
        if self._offset is None:
            self._offset = self._record.Pack(builder)
        return self._offset


def op_name(parsed: Any, operator: Any) -> str:
    """Of an operator, as the schema spells it."""
    return OP_NAMES[parsed.operatorCodes[operator.opcodeIndex].builtinCode]


def op_code(parsed: Any, name: str, version: int) -> int:
    """The index of an op of a version, which is added if the file has none yet."""
    builtin = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(parsed.operatorCodes):
        if (code.builtinCode, code.version) == (builtin, version):
            return index
    code = schema.OperatorCodeT(
        deprecatedBuiltinCode=min(builtin, 127), builtinCode=builtin, version=version
    )
    parsed.operatorCodes.append(code)
    return len(parsed.operatorCodes) - 1


def dtype(tensor: Any) -> str:
    """NumPy's name of a tensor's dtype."""
    return DTYPE_NAMES[tensor.type]


def quantization(scales: Sequence[float], zeros: Sequence[int], axis: int = 0) -> Any:
    """How integers of a tensor stand for real numbers: one scale, or one for each slice."""
    return schema.QuantizationParametersT(
        scale=list(scales), zeroPoint=list(zeros), quantizedDimension=axis
    )


@dataclass
class Subgraph:
    """One subgraph, whose operators can be replaced one after the other."""

    parsed: Any
    graph: Any
    names: list[str] = field(init=False)  # of the operators
    constants: dict[int, NDArray[np.float32]] = field(init=False)  # float tensors with their data
    variables: set[int] = field(init=False)  # float tensors that are computed

    def __post_init__(self) -> None:
        self.names = [op_name(self.parsed, operator) for operator in self.graph.operators]
        floats = [
            index for index, each in enumerate(self.graph.tensors) if dtype(each) == "float32"
        ]
        data = {index: self._data(index) for index in floats}
        self.constants = {index: values for index, values in data.items() if values is not None}
        self.variables = set(floats) - set(self.constants)

    def _data(self, index: int) -> NDArray[np.float32] | None:
        tensor = self.graph.tensors[index]
        data = self.parsed.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return None
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32).reshape(tensor.shape)

    def tensor(self, like: int, kind: str, scaling: Any, buffer: int = 0) -> int:
        """Adds a tensor of the shape and name of another; returns its index."""
        source = self.graph.tensors[like]
        added = schema.TensorT(
            shape=source.shape,
            type=_DTYPES[kind],
            buffer=buffer,
            name=source.name + b"_" + kind.encode(),
            quantization=scaling,
            hasRank=True,
        )
        self.graph.tensors.append(added)
        return len(self.graph.tensors) - 1

    def retype(self, index: int, kind: str, scaling: Any) -> None:
        """Changes what a tensor holds."""
        self.graph.tensors[index].type = _DTYPES[kind]
        self.graph.tensors[index].quantization = scaling

    def conversion(self, name: str, source: int, target: int) -> Any:
        """A QUANTIZE or DEQUANTIZE between two tensors."""
        option = f"{name.capitalize()}Options"
        return schema.OperatorT(
            opcodeIndex=op_code(self.parsed, name, 2 if name == "DEQUANTIZE" else 1),
            inputs=[source],
            outputs=[target],
            builtinOptionsType=getattr(schema.BuiltinOptions, option),
            builtinOptions=getattr(schema, f"{option}T")(),
        )


def replace_outputs(parsed: Any, number: int, outputs: dict[int, int]) -> None:
    """Makes the signature of a subgraph give other tensors than before."""
    for signature in parsed.signatureDefs:
        if signature.subgraphIndex == number:
            for each in signature.outputs:
                each.tensorIndex = outputs[each.tensorIndex]


def prune(parsed: Any) -> None:
    """Removes tensors, data and op codes that nothing uses any more."""
    for number, graph in enumerate(parsed.subgraphs):
        _prune_tensors(parsed, number, graph)
    used = {tensor.buffer for graph in parsed.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in parsed.metadata or []}
    for index, buffer in enumerate(parsed.buffers):
        if index not in used:
            buffer.data = None
    operators = [operator for graph in parsed.subgraphs for operator in graph.operators]
    codes = sorted({operator.opcodeIndex for operator in operators})
    for operator in operators:
        operator.opcodeIndex = codes.index(operator.opcodeIndex)
    parsed.operatorCodes = [parsed.operatorCodes[index] for index in codes]


def _prune_tensors(parsed: Any, number: int, graph: Any) -> None:
    kept = set(graph.inputs) | set(graph.outputs)
    for operator in graph.operators:
        kept |= {index for index in (*operator.inputs, *operator.outputs) if index >= 0}
    place = {old: new for new, old in enumerate(sorted(kept))} | {-1: -1}
    graph.tensors = [graph.tensors[index] for index in sorted(kept)]
    for holder in (graph, *graph.operators):
        holder.inputs = [place[index] for index in holder.inputs]
        holder.outputs = [place[index] for index in holder.outputs]
    for signature in parsed.signatureDefs:
        if signature.subgraphIndex == number:
            for each in (*signature.inputs, *signature.outputs):
                each.tensorIndex = place[each.tensorIndex]


def min_runtime(parsed: Any) -> str | None:
    """The oldest TFLite that has every op version used, if the converter wrote it."""
    for entry in parsed.metadata or []:
        if entry.name == _MIN_RUNTIME:
            return bytes(parsed.buffers[entry.buffer].data).split(b"\0")[0].decode()
    return None


def raise_min_runtime(parsed: Any, least: tuple[int, ...]) -> None:
    """Writes that the file needs a TFLite of at least a version."""
    known = min_runtime(parsed) or "0"
    if tuple(int(part) for part in known.split(".")) >= least:
        return
    text = ".".join(str(part) for part in least).encode().ljust(_MIN_RUNTIME_BYTES, b"\0")
    for entry in parsed.metadata:
        if entry.name == _MIN_RUNTIME:
            parsed.buffers[entry.buffer].data = np.frombuffer(text, np.uint8)
