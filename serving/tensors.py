"""NumPy ↔ the tensor messages of both APIs.

    tfs_pb2.TensorProto     tensor_content, or *_val, where a short list repeats its last value
    inference_pb2.Tensor    data, or strings

Numbers are row-major and little-endian on the wire, whatever the machine. Strings are `bytes` in
arrays of dtype object. Nothing in a message is believed: dtype, rank, sizes and the length of the
data are checked before an array is made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protos import inference_pb2, tfs_pb2
from serving.errors import InvalidArgument

Array = NDArray[Any]

MAX_RANK = 16
MAX_ELEMENTS = 1 << 24  # a few bytes may ask for a huge tensor by repeating one value


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """One dtype in all three vocabularies."""

    dtype: np.dtype[Any]  # little-endian
    tfs: tfs_pb2.DataType
    own: inference_pb2.DType | None  # None: our own API has no such numbers
    values: str  # the field of TensorProto that lists single values


def _kind(dtype: str, tfs: tfs_pb2.DataType, own: inference_pb2.DType | None, values: str) -> _Kind:
    return _Kind(dtype=np.dtype(dtype).newbyteorder("<"), tfs=tfs, own=own, values=values)


_KINDS = (
    _kind("float32", tfs_pb2.DT_FLOAT, inference_pb2.DTYPE_FLOAT32, "float_val"),
    _kind("float64", tfs_pb2.DT_DOUBLE, inference_pb2.DTYPE_FLOAT64, "double_val"),
    _kind("float16", tfs_pb2.DT_HALF, inference_pb2.DTYPE_FLOAT16, "half_val"),
    _kind("int8", tfs_pb2.DT_INT8, inference_pb2.DTYPE_INT8, "int_val"),
    _kind("uint8", tfs_pb2.DT_UINT8, inference_pb2.DTYPE_UINT8, "int_val"),
    _kind("int16", tfs_pb2.DT_INT16, inference_pb2.DTYPE_INT16, "int_val"),
    _kind("int32", tfs_pb2.DT_INT32, inference_pb2.DTYPE_INT32, "int_val"),
    _kind("int64", tfs_pb2.DT_INT64, inference_pb2.DTYPE_INT64, "int64_val"),
    _kind("uint16", tfs_pb2.DT_UINT16, None, "int_val"),
    _kind("uint32", tfs_pb2.DT_UINT32, None, "uint32_val"),
    _kind("uint64", tfs_pb2.DT_UINT64, None, "uint64_val"),
    _kind("bool", tfs_pb2.DT_BOOL, inference_pb2.DTYPE_BOOL, "bool_val"),
    _kind("object", tfs_pb2.DT_STRING, inference_pb2.DTYPE_STRING, "string_val"),
)
_BY_NAME = {kind.dtype.name: kind for kind in _KINDS}
_BY_DTYPE = {kind.dtype.newbyteorder("="): kind for kind in _KINDS}
_BY_TFS = {kind.tfs: kind for kind in _KINDS}
_BY_NUMBER = {int(kind.tfs): kind for kind in _KINDS}
_BY_OWN = {kind.own: kind for kind in _KINDS if kind.own is not None}


def dtype_number(dtype: np.dtype[Any], field: str = "tensor") -> tfs_pb2.DataType:
    """The number of a dtype in TensorFlow's DataType.

    Raises:
        InvalidArgument: it has no counterpart.
    """
    return _kind_of(dtype, field).tfs


def dtype_of(number: int, field: str = "tensor") -> np.dtype[Any]:
    """The dtype of a number of TensorFlow's DataType, in this machine's byte order.

    Raises:
        InvalidArgument: it has no counterpart.
    """
    return _lookup(_BY_NUMBER.get(number), number, field).dtype.newbyteorder("=")


def encode_tfs(array: Array, field: str = "tensor") -> tfs_pb2.TensorProto:
    """An array of any shape as TensorFlow's message, numbers in `tensor_content`.

    Args:
        field: what the array is, for the message.

    Raises:
        InvalidArgument: its dtype has no counterpart.
    """
    proto = tfs_pb2.TensorProto()
    fill_tfs(proto, array, field)
    return proto


def fill_tfs(
    proto: tfs_pb2.TensorProto, array: Array, field: str = "tensor", *, as_values: bool = False
) -> None:
    """Writes an array into an empty message: ours, or TensorFlow's own, which is the same.

    Args:
        as_values: numbers in `float_val` and its like, as TensorFlow Serving answers by default;
            else in `tensor_content`, a hundred times faster for large ones.

    Raises:
        InvalidArgument: its dtype has no counterpart.
    """
    kind = _kind_of(array.dtype, field)
    proto.dtype = kind.tfs
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if _is_string(kind):
        proto.string_val.extend(_to_strings(array, field))
    elif as_values:
        getattr(proto, kind.values).extend(_to_values(array, kind))
    else:
        proto.tensor_content = _to_bytes(array, kind)


def decode_tfs(proto: tfs_pb2.TensorProto, field: str = "tensor") -> Array:
    """The array of TensorFlow's message; it may be read-only.

    Args:
        field: where the message came from, such as `outputs['logits']`.

    Raises:
        InvalidArgument: names the part of the message that is wrong.

    Source:
        tensorflow/core/framework/tensor.proto (the fields), tensor.cc `FromProtoField` (a short
        list repeats its last value, an empty one means zeros).
    """
    kind = _lookup(_BY_TFS.get(proto.dtype), proto.dtype, field)
    if proto.tensor_shape.unknown_rank:
        raise InvalidArgument(f"{field}.tensor_shape", "has no rank; send every dimension")
    shape = _shape([dim.size for dim in proto.tensor_shape.dim], f"{field}.tensor_shape")
    if not proto.tensor_content:
        return _from_values(proto, kind, shape, f"{field}.{kind.values}")
    if _is_string(kind):
        raise InvalidArgument(f"{field}.tensor_content", "holds strings; send string_val instead")
    return _from_bytes(proto.tensor_content, kind, shape, f"{field}.tensor_content")


def encode(array: Array, field: str = "tensor") -> inference_pb2.Tensor:
    """An array of any shape as the message of our own API.

    Args:
        field: what the array is, for the message.

    Raises:
        InvalidArgument: its dtype has no counterpart.
    """
    kind = _own_kind_of(array.dtype, field)
    if _is_string(kind):
        strings = _to_strings(array, field)
        return inference_pb2.Tensor(dtype=kind.own, shape=array.shape, strings=strings)
    return inference_pb2.Tensor(dtype=kind.own, shape=array.shape, data=_to_bytes(array, kind))


def decode(proto: inference_pb2.Tensor, field: str = "tensor") -> Array:
    """The array of our own API's message; it may be read-only.

    Args:
        field: its path in the request, such as `inputs[0].tensors['input_ids']`.

    Raises:
        InvalidArgument: names the part of the message that is wrong.
    """
    kind = _lookup(_BY_OWN.get(proto.dtype), proto.dtype, field)
    shape = _shape(proto.shape, f"{field}.shape")
    if _is_string(kind):
        _refuse(proto.data, f"{field}.data", "must be empty for strings; send `strings`")
        if len(proto.strings) != math.prod(shape):
            text = f"has {len(proto.strings)} values, its shape needs {math.prod(shape)}"
            raise InvalidArgument(f"{field}.strings", text)
        return _object_array(proto.strings, shape)
    _refuse(proto.strings, f"{field}.strings", "must be empty for numbers; send `data`")
    return _from_bytes(proto.data, kind, shape, f"{field}.data")


def _kind_of(dtype: np.dtype[Any], field: str) -> _Kind:
    kind = _BY_DTYPE.get(dtype)
    if kind is not None:
        return kind
    name = "object" if dtype.kind in "OSU" else dtype.name
    if name not in _BY_NAME:
        raise InvalidArgument(field, f"has dtype {name}; send one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def _own_kind_of(dtype: np.dtype[Any], field: str) -> _Kind:
    kind = _kind_of(dtype, field)
    if kind.own is None:
        known = ", ".join(_names(_BY_OWN.values()))
        raise InvalidArgument(field, f"has dtype {kind.dtype.name}; send one of {known}")
    return kind


def _names(kinds: Iterable[_Kind]) -> list[str]:
    return ["string" if _is_string(kind) else kind.dtype.name for kind in kinds]


def _is_string(kind: _Kind) -> bool:
    return kind.dtype == object


def _to_bytes(array: Array, kind: _Kind) -> bytes:
    return array.astype(kind.dtype, copy=False).tobytes()


def _to_values(array: Array, kind: _Kind) -> list[Any]:
    flat = array.ravel()
    return (flat.view(np.uint16) if kind.values == "half_val" else flat).tolist()


def _to_strings(array: Array, field: str) -> list[bytes]:
    values = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    for value in values:
        if not isinstance(value, bytes):
            raise InvalidArgument(field, f"holds a {type(value).__name__}; send str or bytes")
    return values


def _lookup(kind: _Kind | None, number: int, field: str) -> _Kind:
    if kind is None:
        known = ", ".join(_names(_KINDS))
        raise InvalidArgument(f"{field}.dtype", f"is {number}; send one of {known}")
    return kind


def _shape(sizes: Sequence[int], field: str) -> tuple[int, ...]:
    if len(sizes) > MAX_RANK:
        raise InvalidArgument(field, f"has {len(sizes)} dimensions, the limit is {MAX_RANK}")
    shape = tuple(sizes)
    if any(size < 0 for size in shape):
        raise InvalidArgument(field, f"is {list(shape)}; every size must be at least 0")
    # A zero beside a huge size is empty, yet too large for NumPy's own arithmetic.
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise InvalidArgument(field, f"is {list(shape)}; the limit is {MAX_ELEMENTS} elements")
    return shape


def _from_bytes(data: bytes, kind: _Kind, shape: tuple[int, ...], field: str) -> Array:
    needed = math.prod(shape) * kind.dtype.itemsize
    if len(data) != needed:
        text = f"has {len(data)} bytes; {kind.dtype.name} {list(shape)} needs {needed}"
        raise InvalidArgument(field, text)
    if kind.dtype == bool and data.translate(None, b"\0\1"):
        raise InvalidArgument(field, "holds a byte that is no bool; send 0 or 1")
    array = np.frombuffer(data, kind.dtype).reshape(shape)
    return array.astype(kind.dtype.newbyteorder("="), copy=False)


def _from_values(
    proto: tfs_pb2.TensorProto, kind: _Kind, shape: tuple[int, ...], field: str
) -> Array:
    values = getattr(proto, kind.values)
    count = math.prod(shape)
    if len(values) > count:
        raise InvalidArgument(field, f"has {len(values)} values, its shape needs {count}")
    if _is_string(kind):
        last = values[-1] if values else b""
        return _object_array([*values, *[last] * (count - len(values))], shape)
    array = np.zeros(count, kind.dtype.newbyteorder("="))
    if values:
        given = _narrow(np.array(values), kind, field)
        array[: len(given)] = given
        array[len(given) :] = given[-1]
    return array.reshape(shape)


def _narrow(wide: Array, kind: _Kind, field: str) -> Array:
    """Values as the message carries them → the tensor's dtype, without a silent wrap."""
    half = kind.dtype == np.float16  # travels as the bits of a float16, in an int32
    narrow = wide.astype(np.uint16 if half else kind.dtype)
    if kind.values in {"int_val", "half_val"} and (narrow != wide).any():
        raise InvalidArgument(field, f"holds a value that is out of range for {kind.dtype.name}")
    return narrow.view(np.float16) if half else narrow


def _object_array(strings: Iterable[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(math.prod(shape), object)
    array[:] = list(strings)
    return array.reshape(shape)


def _refuse(value: Any, field: str, problem: str) -> None:
    if value:
        raise InvalidArgument(field, problem)
