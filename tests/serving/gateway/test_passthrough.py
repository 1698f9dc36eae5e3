"""Laws of the pass-through: TensorFlow Serving's API, byte for byte, status for status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protos import tfs_pb2
from serving import tensors
from serving.gateway import access
from serving.gateway.passthrough import METHODS
from serving.gateway.pool import RELOAD

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


OF_A_MODEL = sorted(METHODS - {RELOAD, "/tensorflow.serving.PredictionService/MultiInference"})


@pytest.fixture
def ask_with(
    make_config: Callable[..., Any], running: Callable[..., Any], tmp_path: Path
) -> Iterator[Callable[..., grpc.StatusCode]]:
    """Asks a gateway with keys: `limited` is for the model `tiny`, `ops` is an admin's."""
    path = tmp_path / "keys.yaml"
    keys = {
        "limited": access.add(path, "limited", models=["tiny"]),
        "any": access.add(path, "any"),
        "ops": access.add(path, "ops", admin=True),
        "made up": "ts_00000000_00",
    }
    with (
        running(make_config(keys=path)) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):

        def ask(key: str, method: str, request: bytes) -> grpc.StatusCode:
            metadata = [("authorization", f"Bearer {keys[key]}")] if key else []
            try:
                channel.unary_unary(method)(request, timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            return grpc.StatusCode.OK

        yield ask


def about(model: str) -> bytes:
    """`model_spec` is the first field of every request."""
    return tfs_pb2.GetModelStatusRequest(model_spec={"name": model}).SerializeToString()


def test_a_key_for_one_model_passes_for_no_other_in_any_method(
    ask_with: Callable[..., grpc.StatusCode], serving: Any
) -> None:
    denied = grpc.StatusCode.PERMISSION_DENIED
    for method in OF_A_MODEL:
        assert ask_with("limited", method, about("other")) is denied, method
        assert ask_with("limited", method, b"") is denied, method
        # The last one counts, as it does for the backend.
        assert ask_with("limited", method, about("tiny") + about("other")) is denied, method
        assert ask_with("limited", method, about("tiny")) is not denied, method
        assert ask_with("any", method, about("other")) is not denied, method
    assert ask_with("limited", PREDICT, predict_request()) is grpc.StatusCode.OK
    assert "authorization" not in serving.metadata  # a key is the gateway's affair
    several = "/tensorflow.serving.PredictionService/MultiInference"
    assert ask_with("limited", several, b"") is denied
    assert ask_with("any", several, b"") is not denied


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_method_passes_without_a_key_that_is_known(
    ask_with: Callable[..., grpc.StatusCode], method: str
) -> None:
    for key in ("", "made up"):
        assert ask_with(key, method, about("tiny")) is grpc.StatusCode.UNAUTHENTICATED


def test_only_an_admin_has_the_backend_reload(ask_with: Callable[..., grpc.StatusCode]) -> None:
    assert ask_with("any", RELOAD, b"") is grpc.StatusCode.PERMISSION_DENIED
    # It reached the backend, which does not know it.
    assert ask_with("ops", RELOAD, b"") is grpc.StatusCode.UNIMPLEMENTED
