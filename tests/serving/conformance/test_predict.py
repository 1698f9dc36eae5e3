"""Law: Predict, GetModelMetadata and the choice of a version are TensorFlow Serving's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

WAIT_S = 30.0
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


def request(model: str = "half_plus_two", signature: str = "", **inputs: Any) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    made = predict_pb2.PredictRequest()
    made.model_spec.name = model
    made.model_spec.signature_name = signature
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return made


def array(proto: Any) -> Any:
    import tensorflow as tf

    return tf.make_ndarray(proto).tolist()


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def test_the_newest_version_answers_and_says_which_it_is(stubs: Any) -> None:
    response = stubs.prediction.Predict(request(x=floats(1, 2, 5)), WAIT_S)
    assert array(response.outputs["y"]) == [3.5, 4.0, 5.5]
    spec = response.model_spec
    assert (spec.name, spec.version.value) == ("half_plus_two", 2)
    assert spec.signature_name == "serving_default"


def test_numbers_are_answered_as_values(stubs: Any) -> None:
    output = stubs.prediction.Predict(request(x=floats(1)), WAIT_S).outputs["y"]
    assert list(output.float_val) == [3.5]
    assert output.tensor_content == b""


def test_a_version_can_be_named_by_number_or_label(stubs: Any) -> None:
    by_number, by_label = request(x=floats(1)), request(x=floats(1))
    by_number.model_spec.version.value = 1
    by_label.model_spec.version_label = "stable"
    for asked in (by_number, by_label):
        response = stubs.prediction.Predict(asked, WAIT_S)
        assert array(response.outputs["y"]) == [2.5]
        assert response.model_spec.version.value == 1


def test_both_encodings_of_a_tensor_are_taken(stubs: Any) -> None:
    asked = request()
    proto = asked.inputs["x"]
    proto.dtype = 1
    proto.tensor_shape.dim.add(size=3)
    proto.float_val.append(2.0)  # the last value is repeated
    assert array(stubs.prediction.Predict(asked, WAIT_S).outputs["y"]) == [4.0] * 3


def test_several_inputs_and_outputs_go_by_name_and_a_filter_chooses(stubs: Any) -> None:
    asked = request("pair", a=floats(1, 2), b=floats(3, 4))
    outputs = stubs.prediction.Predict(asked, WAIT_S).outputs
    assert {name: array(value) for name, value in outputs.items()} == {
        "sum": [4.0, 6.0],
        "product": [3.0, 8.0],
    }
    asked.output_filter.append("sum")
    assert set(stubs.prediction.Predict(asked, WAIT_S).outputs) == {"sum"}


def test_strings_and_scalars_pass(stubs: Any) -> None:
    text = stubs.prediction.Predict(request("pair", "upper", text=[b"a\0b", b""]), WAIT_S)
    assert list(text.outputs["text"].string_val) == [b"A\0B", b""]
    total = stubs.prediction.Predict(request("pair", "total", x=floats(1, 2)), WAIT_S)
    assert array(total.outputs["total"]) == 3.0


def test_a_batch_of_no_rows_is_answered_with_no_rows(stubs: Any) -> None:
    assert array(stubs.prediction.Predict(request(x=floats()), WAIT_S).outputs["y"]) == []


def version_9(asked: Any) -> None:
    asked.model_spec.version.value = 9


def no_label(asked: Any) -> None:
    asked.model_spec.version_label = "nobody"


def short(asked: Any) -> None:
    asked.inputs["x"].tensor_content = b"abc"


@pytest.mark.parametrize(
    ("asked", "spoil", "code", "message"),
    [
        ({"model": "nobody"}, None, NOT_FOUND, "Servable not found for request: Latest(nobody)"),
        (
            {"x": [1.0]},
            version_9,
            NOT_FOUND,
            "Servable not found for request: Specific(half_plus_two, 9)",
        ),
        ({"x": [1.0]}, no_label, INVALID, "Unrecognized servable version label: nobody"),
        ({"signature": "nobody", "x": [1.0]}, None, INVALID, "nobody"),
        ({}, None, INVALID, "x"),
        ({"z": [1.0]}, None, INVALID, "x"),
        ({"x": [1]}, None, INVALID, ""),
        ({"x": [1.0]}, short, INVALID, ""),
    ],
)
def test_what_is_wrong_has_its_status(
    stubs: Any,
    asked: dict[str, Any],
    spoil: Callable[[Any], None] | None,
    code: grpc.StatusCode,
    message: str,
) -> None:
    made = request(**asked)
    if spoil:
        spoil(made)
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Predict(made, WAIT_S)
    assert caught.value.code() is code
    assert message in caught.value.details()


def test_metadata_are_the_stored_signatures(stubs: Any) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2

    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "half_plus_two"
    response = stubs.prediction.GetModelMetadata(asked, WAIT_S)
    assert response.model_spec.version.value == 2
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    methods = {name: each.method_name for name, each in found.signature_def.items()}
    assert methods["serving_default"] == "tensorflow/serving/predict"
    assert methods["regress_x_to_y"] == "tensorflow/serving/regress"
    dims = found.signature_def["serving_default"].inputs["x"].tensor_shape.dim
    assert [dim.size for dim in dims] == [-1]


@pytest.mark.parametrize("fields", [[], ["nothing"]])
def test_metadata_that_are_not_there_are_refused(stubs: Any, fields: list[str]) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2

    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    asked.model_spec.name = "half_plus_two"
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.GetModelMetadata(asked, WAIT_S)
    assert caught.value.code() is INVALID
