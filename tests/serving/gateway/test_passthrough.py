"""Laws of the pass-through: TensorFlow Serving's API, byte for byte, status for status."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from protos import tfs_pb2
from serving import tensors
from serving.gateway.passthrough import METHODS

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


def predict_request(version: int = 1) -> bytes:
    ids = np.int32([[2, 9, 3]])
    return tfs_pb2.PredictRequest(
        model_spec={"name": "tiny", "version": {"value": version}},
        inputs={
            "input_ids": tensors.encode_tfs(ids),
            "attention_mask": tensors.encode_tfs(np.ones_like(ids)),
        },
    ).SerializeToString()


def test_bytes_come_back_as_the_backend_gave_them(channel: grpc.Channel, serving: Any) -> None:
    with grpc.insecure_channel(serving.address) as direct:
        for method, request in (
            (PREDICT, predict_request()),
            (
                STATUS,
                tfs_pb2.GetModelStatusRequest(model_spec={"name": "tiny"}).SerializeToString(),
            ),
        ):
            assert channel.unary_unary(method)(request) == direct.unary_unary(method)(request)


def test_status_and_message_are_the_backends_own(channel: grpc.Channel, serving: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(predict_request(version=7))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "Servable not found: tiny/7"


def test_metadata_and_deadline_are_forwarded(channel: grpc.Channel, serving: Any) -> None:
    channel.unary_unary(PREDICT)(predict_request(), timeout=5, metadata=[("x-trace", "42")])
    assert serving.metadata["x-trace"] == "42"
    assert 0 < serving.left_s[-1] < 5


def test_cancelling_reaches_the_backend(channel: grpc.Channel, serving: Any) -> None:
    serving.gate.clear()
    call = channel.unary_unary(PREDICT).future(predict_request())
    assert serving.entered.acquire(timeout=10)
    call.cancel()
    assert serving.abandoned.acquire(timeout=10)


def test_without_a_backend_the_message_names_no_address(
    channel: grpc.Channel, serving: Any
) -> None:
    serving.stop()
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(PREDICT)(predict_request())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert str(serving.port) not in caught.value.details()


def test_no_other_method_goes_through(channel: grpc.Channel) -> None:
    for method in ("/tensorflow.serving.SessionService/SessionRun", f"{PREDICT}X"):
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(method)(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert len(METHODS) == 7
