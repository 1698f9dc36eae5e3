"""NumPy and messages → TensorFlow Serving's JSON answers.

    {"predictions": [...]}  {"outputs": {...}}  {"results": [...]}  {"error": "..."}

An output whose name ends in _bytes is answered as {"b64": "..."}. NaN, Infinity and -Infinity are
numbers, as in TensorFlow Serving.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.errors import InvalidArgument
from serving.tensors import Array

_BYTES_SUFFIX = "_bytes"


def predictions(outputs: Mapping[str, Array], *, by_row: bool) -> bytes:
    """The answer to a `:predict`.

    Raises:
        InvalidArgument: rows were asked, and an output has other ones.
    """
    values = {name: _values(name, outputs[name]) for name in sorted(outputs)}
    if not by_row:
        (single, *others) = values.values()
        return dump({"outputs": values if others else single})
    _check_rows(outputs)
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    if len(values) > 1:
        return dump({"predictions": rows})
    return dump({"predictions": [value for row in rows for value in row.values()]})


def classifications(result: Any) -> bytes:
    """The answer to a `:classify`: [label, score] of each class of each example."""
    rows = [
        [[item.label, _shortest(item.score)] for item in example.classes]
        for example in result.classifications
    ]
    return dump({"results": rows})


def regressions(result: Any) -> bytes:
    """The answer to a `:regress`: a value for each example."""
    return dump({"results": [_shortest(item.value) for item in result.regressions]})


def error(message: str) -> bytes:
    """How every fault is told."""
    return dump({"error": message})


def _check_rows(outputs: Mapping[str, Array]) -> None:
    first: int | None = None
    for name in sorted(outputs):
        array = outputs[name]
        if array.ndim == 0:
            raise InvalidArgument(f"Tensor name: {name}", "has no shape information")
        first = len(array) if first is None else first
        if len(array) != first:
            raise InvalidArgument(
                f"Tensor name: {name}",
                f"has inconsistent batch size: {len(array)} expecting: {first}",
            )


def _values(name: str, array: Array) -> Any:
    """An output as nested lists."""
    if array.dtype.hasobject:
        return _texts(array.tolist(), name.endswith(_BYTES_SUFFIX))
    if array.dtype.kind == "f" and array.dtype.itemsize < 8:
        # The shortest decimal of a float32; as a float64 it would have noise in its last digits.
        return array.astype("U").astype(np.float64).tolist()
    return array.tolist()


def _texts(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_texts(each, as_bytes) for each in value]
    if not as_bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass  # it has no other form in JSON
    return {"b64": base64.b64encode(value).decode()}


def _shortest(value: float) -> float:
    """A float32 that was widened, as its shortest decimal."""
    return float(str(np.float32(value)))


def dump(value: Any) -> bytes:
    """Any answer as JSON."""
    return json.dumps(value).encode()
