"""TensorFlow Serving's JSON requests → NumPy.

    {"instances": [1, 2]}                  rows; one input, or an object for each row
    {"inputs": {"x": [1, 2]}}              columns; one input, or an object of all
    {"examples": [{"age": 3}, ...]}        what Classify and Regress take: `json_examples`

Bytes are {"b64": "..."}. NaN, Infinity and -Infinity are numbers, as in TensorFlow Serving.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.backend.signature import Signature
from serving.errors import InvalidArgument, LimitExceeded
from serving.tensors import MAX_RANK, Array, dtype_of

_BOUNDS = {"values": (b",", 1 << 23), "lists or objects": (b"[{", 1 << 20)}
_SHOWN = 100  # characters of a value in a message
# Whole numbers up to here are exact; TensorFlow Serving refuses others.
_EXACT = {2: 1 << 11, 4: 1 << 24, 8: 1 << 53}

Document = dict[str, Any]


class Request(NamedTuple):
    """What a `:predict` asks: inputs by name, and whether they came row by row."""

    inputs: dict[str, Array]
    by_row: bool


def parse(body: bytes) -> Document:
    """The JSON object of a request.

    Raises:
        InvalidArgument: it is none.
        LimitExceeded: it would take too much memory.
    """
    if not body:
        raise InvalidArgument("JSON Parse error", "The document is empty")
    _check_bounds(body)
    try:
        found = json.loads(body)
    except RecursionError:
        raise InvalidArgument("JSON Parse error", "is nested too deeply") from None
    except ValueError as error:
        raise InvalidArgument("JSON Parse error", str(error)) from error
    if not isinstance(found, dict):
        raise InvalidArgument("JSON Value", f"{shown(found)} Is not object")
    return found


def _check_bounds(body: bytes) -> None:
    """Two bytes of JSON may become eighty in memory, so what they hold is counted first."""
    for what, (marks, most) in _BOUNDS.items():
        found = sum(body.count(mark) for mark in marks)
        if found > most:
            raise LimitExceeded(f"the request has {found} {what}; the limit is {most}")


def signature_name(document: Document) -> str:
    """The signature that is asked for; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(
            "JSON Value",
            f"{shown(document)} not formatted correctly. "
            "'signature_name' key must be a string value.",
        )
    return name


def read_predict(document: Document, signature: Signature) -> Request:
    """The inputs of a `:predict`, in the signature's dtypes.

    Raises:
        InvalidArgument: names what is wrong.
    """
    if ("instances" in document) is ("inputs" in document):
        if "inputs" not in document:
            raise InvalidArgument("request", "Missing 'inputs' or 'instances' key")
        raise InvalidArgument(
            "JSON Value",
            f"{shown(document)} Not formatted correctly expecting only "
            "one of 'inputs' or 'instances' keys to exist",
        )
    if "instances" in document:
        return Request(_read_rows(document["instances"], signature), by_row=True)
    return Request(_read_columns(document["inputs"], signature), by_row=False)


def _read_rows(rows: Any, signature: Signature) -> dict[str, Array]:
    if not isinstance(rows, list):
        raise InvalidArgument("JSON Value", f"{shown(rows)} Excepting 'instances' to be a list")
    if not rows:
        raise InvalidArgument("JSON Value", "[] No values in 'instances' array")
    if not _is_object(rows[0]):
        if len(signature.inputs) != 1:
            raise InvalidArgument(
                "instances",
                "is a plain list, but expecting list of objects as multiple "
                "input tensors required as per tensorinfo_map",
            )
        return _tensors({next(iter(signature.inputs)): rows}, signature, "instances")
    names = set(signature.inputs)
    for index, row in enumerate(rows):
        if not _is_object(row):
            raise InvalidArgument("instances", f"Expecting object but got list at item {index}")
        if row.keys() != names:
            raise InvalidArgument(
                f"instances[{index}]",
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{shown(row)} keys must be equal to: {','.join(sorted(names))}",
            )
    columns = {name: [row[name] for row in rows] for name in signature.inputs}
    return _tensors(columns, signature, "instances")


def _read_columns(given: Any, signature: Signature) -> dict[str, Array]:
    if _is_object(given):
        for name in signature.inputs:
            if name not in given:
                raise InvalidArgument("inputs", f"Missing named input: {name} in 'inputs' object.")
        return _tensors({name: given[name] for name in signature.inputs}, signature, "inputs")
    if len(signature.inputs) != 1:
        raise InvalidArgument(
            "inputs",
            "is a plain value/list, but expecting an object as multiple "
            "input tensors required as per tensorinfo_map",
        )
    return _tensors({next(iter(signature.inputs)): given}, signature, "inputs")


def _tensors(values: Mapping[str, Any], signature: Signature, where: str) -> dict[str, Array]:
    return {
        name: _tensor(value, dtype_of(signature.inputs[name].dtype, name), f"{where}[{name!r}]")
        for name, value in values.items()
    }


def _tensor(value: Any, dtype: np.dtype[Any], field: str) -> Array:
    """A nested list as an array of the signature's dtype, without a silent loss."""
    if dtype.hasobject:
        return _strings(value, field)
    try:
        found = np.array(value)
    except ValueError:  # its lists differ in length
        raise InvalidArgument(field, f"{shown(value)} has lists of different sizes") from None
    if found.ndim > MAX_RANK:
        raise InvalidArgument(field, f"has {found.ndim} dimensions, the limit is {MAX_RANK}")
    if found.size == 0:
        return found.astype(dtype)
    if dtype == np.uint64 and found.dtype.kind == "f":
        found = _whole(value, found)
    if found.dtype.kind not in {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]:
        raise InvalidArgument(
            field, f"JSON Value: {shown(value)} is not of expected type: {dtype.name}"
        )
    return cast(found, dtype, field)


def _whole(value: Any, found: Array) -> Array:
    """NumPy makes floats of whole numbers if some alone are above int64's range."""
    numbers = np.array(value, object).flat
    if all(type(each) is int and 0 <= each < 1 << 64 for each in numbers):
        return np.array(value, np.uint64)
    return found


def cast(found: Array, dtype: np.dtype[Any], field: str) -> Array:
    """Numbers in another dtype.

    Raises:
        InvalidArgument: it can't hold one of them.
    """
    with np.errstate(over="ignore"):
        cast = found.astype(dtype)
    if dtype.kind in "iu":
        lossy = bool((cast != found).any())
    elif dtype.kind == "f" and found.dtype.kind in "iu":
        exact = _EXACT[dtype.itemsize]
        lossy = int(found.max()) > exact or int(found.min()) < -exact
    else:
        lossy = dtype.kind == "f" and bool((np.isfinite(found) & ~np.isfinite(cast)).any())
    if lossy:
        raise InvalidArgument(
            field, f"Cannot convert JSON value to {dtype.name} without loss of precision."
        )
    return cast


def _strings(value: Any, field: str) -> Array:
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        if len(shape) > MAX_RANK:
            raise InvalidArgument(field, f"has more dimensions than the limit, {MAX_RANK}")
        level = level[0] if level else None
    flat: list[bytes] = []
    _flatten(value, shape, flat, field)
    array = np.empty(len(flat), object)
    array[:] = flat
    return array.reshape(shape)


def _flatten(value: Any, shape: Sequence[int], flat: list[bytes], field: str) -> None:
    if not shape:
        flat.append(text_bytes(value, field))
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise InvalidArgument(
            field, f"Encountered {shown(value)}, expected a list of size: {shape[0]}"
        )
    for each in value:
        _flatten(each, shape[1:], flat, field)


def text_bytes(value: Any, field: str) -> bytes:
    """A string, or what stands for bytes, as bytes.

    Raises:
        InvalidArgument: it is neither.
    """
    try:
        if isinstance(value, str):
            return value.encode()
        if is_b64(value):
            return base64.b64decode(value["b64"], validate=True)
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise InvalidArgument(field, f"JSON Value: is no Unicode: {error.reason}") from error
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(field, f"Unable to base64 decode: {error}") from error
    raise InvalidArgument(field, f"JSON Value: {shown(value)} is not of expected type: string")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_b64(value)


def is_b64(value: Any) -> bool:
    """Whether a value stands for bytes."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def shown(value: Any) -> str:
    """A value as a message tells it: short."""
    text = _size(value) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _size(value: Document | list[Any]) -> str:
    return f"{'Object' if isinstance(value, dict) else 'Array'} of {len(value)}"
