"""JSON examples → `tf.Example`s: what `:classify` and `:regress` take.

    {"context": {"country": "de"}, "examples": [{"age": 3, "name": "a"}, {"age": [4, 5]}]}

true, false and whole numbers are int64, decimals float, strings and {"b64": ...} bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.backend.json_requests import Document, cast, is_b64, shown, text_bytes
from serving.errors import InvalidArgument


def read(document: Document, request: Any) -> None:
    """Fills the `input` of a ClassificationRequest or RegressionRequest.

    Raises:
        InvalidArgument: names what is wrong.
    """
    if "examples" not in document:
        raise InvalidArgument("JSON Value", f"{shown(document)} key 'examples' was not found")
    given = document["examples"]
    if not isinstance(given, list) or not given:
        raise InvalidArgument("examples", "must be a list with at least one example")
    if "context" in document:
        listed = request.input.example_list_with_context
        _fill_example(listed.context, document["context"])
    else:
        listed = request.input.example_list
    for each in given:
        _fill_example(listed.examples.add(), each)


def _fill_example(example: Any, given: Any) -> None:
    if not isinstance(given, dict):
        raise InvalidArgument("Example must be JSON object but got JSON", shown(given))
    for name, content in given.items():
        field = f"Feature: {shown(name)}"
        values = content if isinstance(content, list) else [content]
        try:
            _fill_feature(example.features.feature[name], values, field)
        except UnicodeEncodeError as error:
            raise InvalidArgument(field, f"is no Unicode: {error.reason}") from error


def _fill_feature(feature: Any, values: Sequence[Any], field: str) -> None:
    kinds = {_feature_kind(value, field) for value in values}
    if len(kinds) > 1:
        raise InvalidArgument(field, f"Unexpected element type, expecting one of {sorted(kinds)}")
    for kind in kinds:
        if kind == "bytes":
            feature.bytes_list.value.extend(text_bytes(value, field) for value in values)
        elif kind == "float":
            feature.float_list.value.extend(
                cast(np.array(values, np.float64), np.dtype(np.float32), field).tolist()
            )
        else:
            if any(not -(1 << 63) <= value < 1 << 63 for value in values):
                raise InvalidArgument(field, "has an element that is no int64")
            feature.int64_list.value.extend(int(value) for value in values)


def _feature_kind(value: Any, field: str) -> str:
    if isinstance(value, str) or is_b64(value):
        return "bytes"
    if isinstance(value, float):
        return "float"
    if isinstance(value, int):  # true and false, too
        return "int64"
    raise InvalidArgument(field, f"has element with unexpected JSON type: {shown(value)}")
