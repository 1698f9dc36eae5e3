"""Law: JSON becomes the arrays that the signature takes, without a loss, or is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from protos import tfs_pb2
from serving.backend import json_answers, json_examples, json_requests
from serving.backend.signature import Signature, TensorSpec
from serving.errors import InvalidArgument
from serving.tensors import dtype_number

NUMBERS = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
MORE = ("uint16", "uint32", "uint64")


def one(dtype: str, name: str = "x") -> Signature:
    number = dtype_number(np.dtype(dtype))
    return Signature(
        name="s", inputs={name: TensorSpec(dtype=number, shape=None)}, outputs={name: _ANY}
    )


_ANY = TensorSpec(dtype=tfs_pb2.DT_FLOAT, shape=None)


def read(document: Any, signature: Signature) -> Any:
    return json_requests.read_predict(
        json_requests.parse(json.dumps(document).encode()), signature
    ).inputs


shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)


@settings(max_examples=150)
@given(
    st.sampled_from(NUMBERS + MORE).flatmap(lambda dtype: hnp.arrays(dtype, shapes)), st.booleans()
)
@example(np.array([1 << 63, 0], np.uint64), False)
def test_what_is_answered_can_be_asked_and_is_the_same(array: Any, by_row: bool) -> None:
    by_row = by_row and array.ndim > 0
    body = json.loads(json_answers.predictions({"x": array}, by_row=by_row))
    document = {"instances": body["predictions"]} if by_row else {"inputs": body["outputs"]}
    found = read(document, one(array.dtype.name))["x"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f")


def test_strings_and_bytes_go_by_their_form() -> None:
    asked = {"instances": ["é", {"b64": "/w=="}]}
    assert read(asked, one("object"))["x"].tolist() == ["é".encode(), b"\xff"]
    outputs = {"x": np.array([b"a", b"\xff"], object), "x_bytes": np.array([b"a", b"b"], object)}
    assert json.loads(json_answers.predictions(outputs, by_row=False))["outputs"] == {
        "x": ["a", {"b64": "/w=="}],  # no text at all
        "x_bytes": [{"b64": "YQ=="}, {"b64": "Yg=="}],
    }


@pytest.mark.parametrize(
    ("dtype", "value", "problem"),
    [
        ("int32", 1.5, "JSON Value: 1.5 is not of expected type: int32"),
        ("int32", True, "is not of expected type: int32"),
        ("int32", None, "is not of expected type: int32"),
        ("int32", {"b64": "YQ=="}, "is not of expected type: int32"),
        ("int8", 300, "Cannot convert JSON value to int8 without loss of precision"),
        ("uint8", -1, "Cannot convert JSON value to uint8 without loss"),
        ("int64", 1 << 63, "Cannot convert JSON value to int64 without loss"),
        ("int64", 1 << 70, "is not of expected type: int64"),
        ("float32", (1 << 24) + 1, "Cannot convert JSON value to float32 without loss"),
        ("float32", 1e300, "Cannot convert JSON value to float32 without loss"),
        ("float32", "1", "is not of expected type: float32"),
        ("float32", [[1], [1, 2]], "has lists of different sizes"),
        ("bool", 1, "is not of expected type: bool"),
        ("object", 1, "JSON Value: 1 is not of expected type: string"),
        ("object", {"b64": "?"}, "Unable to base64 decode"),
        ("object", {"b64": 1}, "is not of expected type: string"),
        ("object", ["a", ["b"]], "is not of expected type: string"),
        ("object", [["a"], "b"], "expected a list of size: 1"),
        ("object", "\ud800", "is no Unicode"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(dtype: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read({"inputs": {"x": value}}, one(dtype))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"inputs":' + b"[" * 300 + b"1" + b"]" * 300 + b"}"]
)
def test_a_nest_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        json_requests.read_predict(json_requests.parse(body), one("float32"))


def test_features_are_told_by_their_form() -> None:
    from tensorflow_serving.apis import regression_pb2

    request = regression_pb2.RegressionRequest()
    given_ = {
        "context": {"c": "x"},
        "examples": [{"i": [1, True], "f": [0.5, 1.0], "b": {"b64": "/w=="}, "none": []}],
    }
    json_examples.read(given_, request)
    listed = request.input.example_list_with_context
    assert listed.context.features.feature["c"].bytes_list.value == [b"x"]
    features = listed.examples[0].features.feature
    assert features["i"].int64_list.value == [1, 1]
    assert features["f"].float_list.value == [0.5, 1.0]
    assert features["b"].bytes_list.value == [b"\xff"]
    assert features["none"].WhichOneof("kind") is None


@pytest.mark.parametrize(
    ("examples", "problem"),
    [
        ([1], "Example must be JSON object"),
        ([{"a": [1, 0.5]}], "Feature: 'a': Unexpected element type"),
        ([{"a": None}], "Feature: 'a': has element with unexpected JSON type: None"),
        ([{"a": [[1]]}], "Feature: 'a': has element with unexpected JSON type: Array of 1"),
        ([{"a": 1 << 63}], "Feature: 'a': has an element that is no int64"),
        ([{"a": 1e300}], "without loss of precision"),
        ([{"\ud800": 1}], "is no Unicode"),
    ],
)
def test_a_feature_that_is_none_is_refused(examples: list[Any], problem: str) -> None:
    from tensorflow_serving.apis import regression_pb2

    with pytest.raises(InvalidArgument) as caught:
        json_examples.read({"examples": examples}, regression_pb2.RegressionRequest())
    assert problem in str(caught.value)


def test_rows_need_outputs_of_as_many_rows() -> None:
    with pytest.raises(InvalidArgument, match="Tensor name: x: has no shape information"):
        json_answers.predictions({"x": np.float32(1)}, by_row=True)
    outputs = {"a": np.zeros(2), "b": np.zeros(3)}
    with pytest.raises(InvalidArgument, match="b: has inconsistent batch size: 3 expecting: 2"):
        json_answers.predictions(outputs, by_row=True)


def test_numbers_that_are_no_numbers_are_written_as_tensorflow_serving_does() -> None:
    body = json_answers.predictions({"x": np.float32([math.nan, math.inf, -math.inf])}, by_row=True)
    assert body == b'{"predictions": [NaN, Infinity, -Infinity]}'


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["x", "y", "b64"]), inner, max_size=2)
    ),
    max_leaves=8,
)
documents = st.dictionaries(
    st.sampled_from(["instances", "inputs", "signature_name", "examples", "context"]),
    values,
    max_size=3,
)


def refused(read: Callable[[], Any]) -> str | None:
    """The field that a refusal names; None when there is none."""
    try:
        read()
    except InvalidArgument as error:
        return error.field
    return None


@settings(max_examples=150)
@given(documents | values, st.sampled_from((*NUMBERS, "object")), st.booleans())
def test_any_json_gives_arrays_of_the_dtype_or_a_named_error(
    document: Any, dtype: str, two: bool
) -> None:
    from tensorflow_serving.apis import regression_pb2

    inputs = one(dtype).inputs | (one("object", "y").inputs if two else {})
    signature = Signature(name="s", inputs=inputs, outputs={"x": _ANY})
    wanted = {name: np.dtype(dtype if name == "x" else "object") for name in inputs}

    def read_tensors() -> None:
        parsed = json_requests.parse(json.dumps(document).encode())
        json_requests.signature_name(parsed)
        found = json_requests.read_predict(parsed, signature).inputs
        assert {name: array.dtype for name, array in found.items()} == wanted

    assert refused(read_tensors) != ""
    if isinstance(document, dict):
        request = regression_pb2.RegressionRequest()
        assert refused(lambda: json_examples.read(document, request)) != ""


@settings(max_examples=100)
@given(st.binary(max_size=30))
def test_any_bytes_are_a_json_object_or_a_named_error(body: bytes) -> None:
    assert (refused(lambda: json_requests.parse(body)) or "JSON").startswith("JSON")
