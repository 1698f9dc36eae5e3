"""What a model takes and gives, and whether a request fits it.

Shapes use None for a size that is only known at run time; a shape of None is of unknown rank.
The messages are TensorFlow's own, typed `Any`: importing their modules would load TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from protos import tfs_pb2
from serving.errors import InvalidArgument
from serving.tensors import Array, decode_tfs, dtype_number

Shape = tuple[int | None, ...]

# Resources, variants and the rarer numbers have no encoding in a request.
_SENDABLE = frozenset(tfs_pb2.DataType.values()) - {tfs_pb2.DT_INVALID}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output; `dtype` is a number of TensorFlow's DataType."""

    dtype: int
    shape: Shape | None

    @property
    def per_row(self) -> bool:
        """Whether its first dimension is the batch."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of `shape` can be this one."""
        if self.shape is None:
            return True
        pairs = zip(self.shape, shape, strict=False)
        return len(self.shape) == len(shape) and all(want in {None, got} for want, got in pairs)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One function of a model, by the names its callers use."""

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @cached_property
    def batchable(self) -> bool:
        """Whether rows of different requests may be computed together."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        return bool(self.inputs) and all(spec.per_row for spec in specs)

    def read(self, protos: Mapping[str, Any], max_bytes: int) -> dict[str, Array]:
        """Checks and decodes the inputs of a request.

        Args:
            protos: the request's `inputs`.
            max_bytes: the most that each may take in memory.

        Returns:
            One array per input, in the signature's order.

        Raises:
            InvalidArgument: an input is missing, unknown, or does not fit; names it.
        """
        self._check_names(protos)
        arrays = {name: _decode(name, spec, protos[name]) for name, spec in self.inputs.items()}
        return self.check(arrays, max_bytes)

    def check(self, arrays: Mapping[str, Array], max_bytes: int) -> dict[str, Array]:
        """Checks inputs that are arrays already.

        Args:
            max_bytes: the most that each may take in memory.

        Returns:
            The same, in the signature's order.

        Raises:
            InvalidArgument: an input is missing, unknown, or does not fit; names it.
        """
        self._check_names(arrays)
        for name, spec in self.inputs.items():
            _check(name, spec, arrays[name], max_bytes)
        if self.batchable:
            _check_rows(arrays)
        return {name: arrays[name] for name in self.inputs}

    def choose(self, output_filter: Iterable[str]) -> list[str]:
        """Names of the outputs to answer: all, unless the request filters them.

        Raises:
            InvalidArgument: the filter names something else.
        """
        chosen = list(output_filter)
        for index, name in enumerate(chosen):
            if name not in self.outputs:
                raise InvalidArgument(
                    f"output_filter[{index}]",
                    f"{name!r} is no output of signature {self.name!r}; "
                    f"it has: {', '.join(self.outputs)}",
                )
        return chosen or list(self.outputs)

    def _check_names(self, given: Mapping[str, Any]) -> None:
        takes = f"signature {self.name!r} takes: {', '.join(self.inputs)}"
        for name in self.inputs:
            if name not in given:
                raise InvalidArgument(_field(name), f"is missing; {takes}")
        for name in given:
            if name not in self.inputs:
                raise InvalidArgument(_field(name), f"is not an input; {takes}")


def from_def(name: str, definition: Any) -> Signature | None:
    """Reads a SignatureDef; None when it has tensors that can't be sent in a request."""
    inputs = {key: _spec(definition.inputs[key]) for key in sorted(definition.inputs)}
    outputs = {key: _spec(definition.outputs[key]) for key in sorted(definition.outputs)}
    served_inputs = {key: spec for key, spec in inputs.items() if spec}
    served_outputs = {key: spec for key, spec in outputs.items() if spec}
    if len(served_inputs) < len(inputs) or not 0 < len(served_outputs) == len(outputs):
        return None
    return Signature(name=name, inputs=served_inputs, outputs=served_outputs)


def _spec(info: Any) -> TensorSpec | None:
    if info.dtype not in _SENDABLE or info.WhichOneof("encoding") != "name":
        return None
    if info.tensor_shape.unknown_rank:
        return TensorSpec(dtype=info.dtype, shape=None)
    shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(dtype=info.dtype, shape=shape)


def _decode(name: str, spec: TensorSpec, proto: Any) -> Array:
    if proto.dtype != spec.dtype:
        raise _wrong_dtype(name, spec, proto.dtype)
    return decode_tfs(proto, _field(name))


def _check(name: str, spec: TensorSpec, array: Array, max_bytes: int) -> None:
    field = _field(name)
    if dtype_number(array.dtype, field) != spec.dtype:
        raise _wrong_dtype(name, spec, dtype_number(array.dtype, field))
    if not spec.fits(array.shape):
        wanted = ", ".join("?" if size is None else str(size) for size in spec.shape or ())
        raise InvalidArgument(field, f"has shape {list(array.shape)}; the model takes [{wanted}]")
    _check_size(field, array, max_bytes)


def _wrong_dtype(name: str, spec: TensorSpec, found: int) -> InvalidArgument:
    return InvalidArgument(
        _field(name), f"has dtype {_dtype(found)}; the model takes {_dtype(spec.dtype)}"
    )


def _check_size(field: str, array: Array, max_bytes: int) -> None:
    """A few bytes on the wire can stand for many: a short list repeats its last value."""
    size_bytes = sum(map(len, array.flat)) if array.dtype.hasobject else array.nbytes
    if size_bytes > max_bytes:
        raise InvalidArgument(field, f"takes {size_bytes} bytes; the most is {max_bytes}")


def _check_rows(arrays: Mapping[str, Array]) -> None:
    first, *others = arrays
    rows = len(arrays[first])
    for name in others:
        if len(arrays[name]) != rows:
            raise InvalidArgument(
                _field(name),
                f"has {len(arrays[name])} rows, {_field(first)} has {rows}; "
                "send one row per example in every input",
            )


def _field(name: str) -> str:
    return f'inputs["{name}"]'


def _dtype(number: int) -> str:
    return tfs_pb2.DataType.Name(number) if number in _SENDABLE else f"number {number}"
