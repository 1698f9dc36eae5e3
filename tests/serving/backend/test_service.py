"""Law: TensorFlow Serving's own clients work, and a bad request is named and harms nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor

WAIT_S = 30.0
Request = Callable[..., Any]


def floats(*values: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(values, np.float32)


def test_a_client_written_after_tensorflow_servings_guide_gets_what_numpy_says(
    backend: Any,
    tokenizer_json: bytes,
    tiny_spec: TextPreprocess,
    tiny_answer: Callable[..., Any],
) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    texts = ["a very good film", "awful , dull plot !"]
    with grpc.insecure_channel(backend.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "tiny"
        request.model_spec.signature_name = "serving_default"
        for name, ids in TextPreprocessor(tokenizer_json, tiny_spec)(texts).items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(ids, shape=ids.shape))
        result = stub.Predict(request, 10.0)

    logits = tf.make_ndarray(result.outputs["logits"])
    np.testing.assert_allclose(logits, [tiny_answer(text) for text in texts], rtol=1e-5)
    assert result.model_spec.name == "tiny"
    assert result.model_spec.version.value == 1
    assert result.model_spec.signature_name == "serving_default"


def test_numbers_are_answered_raw_and_strings_as_values(
    stubs: Any, predict_request: Request
) -> None:
    numbers = stubs.prediction.Predict(predict_request(x=floats([1, 2]))).outputs["y"]
    assert (numbers.tensor_content, list(numbers.float_val)) == (floats(2, 4).tobytes(), [])
    text = stubs.prediction.Predict(predict_request(signature="upper", text=[b"a", b"b"]))
    assert list(text.outputs["text"].string_val) == [b"A", b"B"]


def test_an_output_filter_leaves_the_others_out(stubs: Any, predict_request: Request) -> None:
    request = predict_request(x=floats([1]))
    request.output_filter.append("rows")
    assert set(stubs.prediction.Predict(request).outputs) == {"rows"}


@settings(max_examples=50, deadline=None)
@given(
    array=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=4),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_both_encodings_of_a_tensor_mean_the_same(
    stubs: Any, predict_request: Request, array: Any
) -> None:
    request = predict_request(x=array)
    assert request.inputs["x"].tensor_content or array.size == 1
    by_value = predict_request()
    proto = by_value.inputs["x"]
    proto.dtype = request.inputs["x"].dtype
    proto.tensor_shape.CopyFrom(request.inputs["x"].tensor_shape)
    proto.float_val.extend(array.ravel().tolist())
    raw, valued = (
        stubs.prediction.Predict(each).outputs["y"].tensor_content for each in (request, by_value)
    )
    assert raw == valued
    doubled = np.frombuffer(raw, np.float32).reshape(array.shape)
    np.testing.assert_allclose(doubled, 2 * array, atol=1e-37)  # kernels flush subnormals to zero


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.binary(max_size=20), min_size=1, max_size=5))
def test_strings_of_any_bytes_go_through(
    stubs: Any, predict_request: Request, texts: list[bytes]
) -> None:
    request = predict_request(signature="upper", text=np.array(texts, object))
    answer = stubs.prediction.Predict(request).outputs["text"]
    assert list(answer.string_val) == [text.upper() for text in texts]


def test_concurrent_requests_share_runs_and_each_gets_its_own_rows(
    stubs: Any, predict_request: Request, eventually: Callable[..., None]
) -> None:
    together: list[int] = []

    def ask(value: int) -> None:
        width = 1 + value % 2  # two shapes, which must never meet
        request = predict_request(x=np.full((1, width), value, np.float32))
        outputs = stubs.prediction.Predict(request, WAIT_S).outputs
        assert outputs["y"].tensor_content == floats(*[2 * value] * width).tobytes()
        together.extend(np.frombuffer(outputs["rows"].tensor_content, np.int32))

    def ask_at_once() -> bool:
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(ask, range(128)))
        return max(together) > 1

    eventually(ask_at_once)
    assert max(together) <= 32


@pytest.mark.parametrize("version", [None, 1])
def test_metadata_is_the_signatures_as_they_are_stored(stubs: Any, version: int | None) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "probe"
    if version:
        request.model_spec.version.value = version
    request.metadata_field.append("signature_def")
    response = stubs.prediction.GetModelMetadata(request, 10.0)
    assert (response.model_spec.name, response.model_spec.version.value) == ("probe", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    definition = signatures.signature_def["serving_default"]
    assert definition.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in definition.inputs["x"].tensor_shape.dim] == [-1, -1]
    assert "__saved_model_init_op" in signatures.signature_def


@pytest.mark.parametrize(("fields", "problem"), [([], "is empty"), (["x"], "'x' is not supported")])
def test_metadata_that_is_not_there_is_refused(stubs: Any, fields: list[str], problem: str) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "probe"
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.GetModelMetadata(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"metadata_field: {problem}")


def test_status_tells_the_state_of_each_version(stubs: Any) -> None:
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "probe"
    (status,) = stubs.model.GetModelStatus(request, 10.0).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.State.AVAILABLE
    assert (status.version, status.state, status.status.error_code) == (1, available, 0)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("nobody", None, "Could not find any versions of model nobody"),
        ("probe", 7, "Could not find version 7 of model probe"),
    ],
)
def test_status_of_what_is_not_there_is_not_found(
    stubs: Any, name: str, version: int | None, message: str
) -> None:
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version:
        request.model_spec.version.value = version
    with pytest.raises(grpc.RpcError) as caught:
        stubs.model.GetModelStatus(request)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, message)


NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def lie(request: Any) -> None:
    request.inputs["x"].tensor_content += b"\0"


def label(request: Any) -> None:
    request.model_spec.version_label = "canary"


def claim(request: Any) -> None:
    request.inputs["x"].tensor_shape.dim[0].size = 1 << 40


def unname(request: Any) -> None:
    request.ClearField("model_spec")


def filter_out(request: Any) -> None:
    request.output_filter.append("no")


@pytest.mark.parametrize(
    ("arguments", "spoil", "code", "message"),
    [
        ({"model": "nobody"}, None, NOT_FOUND, "Servable not found for request: Latest(nobody)"),
        ({"version": 3}, None, NOT_FOUND, "Servable not found for request: Specific(probe, 3)"),
        ({"signature": "no"}, None, INVALID, "model_spec.signature_name: 'no' is not there"),
        ({"z": floats([1])}, None, INVALID, 'inputs["z"]: is not an input; '),
        ({"x": None}, None, INVALID, 'inputs["x"]: is missing; '),
        ({"x": np.ones((1, 1), np.int32)}, None, INVALID, 'inputs["x"]: has dtype DT_INT32; '),
        ({"x": floats(1)}, None, INVALID, 'inputs["x"]: has shape [1]; the model takes [?, ?]'),
        (
            {"signature": "slow", "x": floats([1], [2]), "turns": np.ones(3, np.int32)},
            None,
            INVALID,
            'inputs["x"]: has 2 rows, inputs["turns"] has 3; ',
        ),
        ({}, lie, INVALID, 'inputs["x"].tensor_content: has 9 bytes; '),
        ({}, claim, INVALID, 'inputs["x"].tensor_shape: '),
        ({}, label, INVALID, "Unrecognized servable version label: canary"),
        ({}, unname, INVALID, "model_spec: Missing ModelSpec; "),
        ({}, filter_out, INVALID, "output_filter[0]: 'no' is no output of signature "),
        ({"model": "n" * 100_000}, None, NOT_FOUND, "Servable not found for request: Latest(nn"),
    ],
)
def test_a_bad_request_names_its_fault_and_the_next_one_is_served(
    stubs: Any,
    predict_request: Request,
    arguments: dict[str, Any],
    spoil: Callable[[Any], None] | None,
    code: grpc.StatusCode,
    message: str,
) -> None:
    sent = {"x": floats([1, 2])} | arguments
    request = predict_request(**{name: value for name, value in sent.items() if value is not None})
    if spoil:
        spoil(request)
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Predict(request, WAIT_S)
    assert caught.value.code() is code
    assert message in caught.value.details()
    good = stubs.prediction.Predict(predict_request(x=floats([1, 2])), WAIT_S)
    assert good.outputs["y"].tensor_content == floats(2, 4).tobytes()


def test_a_fault_inside_stays_inside_and_is_logged(
    stubs: Any, predict_request: Request, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Predict(predict_request(signature="faulty", x=floats(1)), WAIT_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error; see the server's log"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert "/server/secret" in str(record.exc_info[1])


def test_a_model_without_a_name_is_refused(stubs: Any, predict_request: Request) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Predict(predict_request("", x=floats([1])))
    assert caught.value.code() is INVALID
    assert caught.value.details() == "model_spec: ModelSpec has no name specified."


def test_the_services_can_be_listed(stubs: Any) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    stub = reflection_pb2_grpc.ServerReflectionStub(stubs.channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([asked]))
    assert {service.name for service in answer.list_services_response.service} == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    }


@settings(max_examples=40, deadline=None)
@given(
    method=st.sampled_from(
        [
            *(
                f"PredictionService/{name}"
                for name in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")
            ),
            "ModelService/GetModelStatus",
            "ModelService/HandleReloadConfigRequest",
        ]
    ),
    cut=st.integers(0, 60),
    noise=st.binary(max_size=8),
)
def test_any_bytes_get_a_status_and_the_next_request_is_served(
    stubs: Any, predict_request: Request, method: str, cut: int, noise: bytes
) -> None:
    good = predict_request(x=floats([1, 2]))
    data = good.SerializeToString()
    path = f"/tensorflow.serving.{method}"
    call = stubs.channel.unary_unary(path, lambda sent: sent, lambda got: got)
    code = status_of_call(call, data[:cut] + noise + data[cut:])
    # INTERNAL is gRPC's own word for bytes that are no message.
    named = {None, INVALID, NOT_FOUND, grpc.StatusCode.INTERNAL}
    assert code in named | {grpc.StatusCode.FAILED_PRECONDITION}
    answer = stubs.prediction.Predict(good, WAIT_S)
    assert answer.outputs["y"].tensor_content == floats(2, 4).tobytes()


def status_of_call(call: Any, data: bytes) -> grpc.StatusCode | None:
    try:
        call(data, timeout=WAIT_S)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return None


def test_a_storm_of_calls_that_are_given_up_leaves_nothing_behind(
    stubs: Any, predict_request: Request
) -> None:
    good = predict_request(x=floats([1, 2]))
    for _ in range(3):
        calls = [stubs.prediction.Predict.future(good, WAIT_S) for _ in range(150)]
        for call in calls:
            call.cancel()
    answer = stubs.prediction.Predict(good, WAIT_S)
    assert answer.outputs["y"].tensor_content == floats(2, 4).tobytes()
