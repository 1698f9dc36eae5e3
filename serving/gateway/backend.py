"""TensorFlow Serving as the gateway sees it: its own API, over a connection that is kept.

What gRPC itself does about faults is in `_SERVICE_CONFIG`: an address may be a name that stands
for many, of which those take part that are healthy and no outliers. A backend that stands still
is noticed by pings, within `_PING_MS` and `_PONG_MS`: calls on it fail, and are asked elsewhere.
"""

from __future__ import annotations

import json
from typing import Any

import grpc
import grpc.aio

from protos import tfs_pb2
from serving import tensors
from serving.errors import (
    BackendFault,
    BackendUnavailable,
    InvalidArgument,
    LimitExceeded,
    ServingError,
    UnknownModel,
)
from serving.gateway.call import Metadata
from serving.gateway.types import SIGNATURE, Deadline, ModelKey, Tensors

STATUS_TIMEOUT_S = 2.0

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_ENVELOPE_BYTES = 64 << 10  # a request grows a little on its way: model and tensor names
_MAX_DETAIL = 200  # characters of the backend's own words in a message

_PING_MS, _PONG_MS = 1_000, 2_000
_SERVICE_CONFIG = {
    "loadBalancingConfig": [
        {
            "outlier_detection_experimental": {
                "interval": "2s",
                "baseEjectionTime": "5s",
                "maxEjectionTime": "60s",
                "maxEjectionPercent": 50,
                "failurePercentageEjection": {
                    "threshold": 50,
                    "minimumHosts": 2,
                    "requestVolume": 10,
                },
                "childPolicy": [{"round_robin": {}}],
            }
        },
        {"round_robin": {}},
    ],
    "healthCheckConfig": {"serviceName": ""},
}
_RETRIES = {
    "methodConfig": [
        {
            "name": [
                {"service": "tensorflow.serving.PredictionService"},
                {"service": "tensorflow.serving.ModelService"},
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}


class Backend:
    """A client of one address, to be made and used on one event loop.

    Cancelling a call here cancels it there.

    Args:
        address: `host:port`.
        max_message_bytes: of one request or answer.
        alone: there is no other backend. Else what fails is not asked here again: an address that
            stands still would hold the call until its deadline.
    """

    def __init__(self, address: str, max_message_bytes: int, *, alone: bool = True) -> None:
        service_config = _SERVICE_CONFIG | (_RETRIES if alone else {})
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes + _ENVELOPE_BYTES),
                ("grpc.max_send_message_length", max_message_bytes + _ENVELOPE_BYTES),
                ("grpc.service_config", json.dumps(service_config)),
                ("grpc.enable_retries", int(alone)),
                ("grpc.keepalive_time_ms", _PING_MS),
                ("grpc.keepalive_timeout_ms", _PONG_MS),
                ("grpc.http2.ping_timeout_ms", _PONG_MS),  # else pings wait a minute for an answer
                # A backend that comes back is found within a second, not within two minutes.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1_000),
            ],
        )
        self._raw: dict[str, Any] = {}  # method → its multicallable
        self._predict = self._channel.unary_unary(
            _PREDICT,
            request_serializer=tfs_pb2.PredictRequest.SerializeToString,
            response_deserializer=tfs_pb2.PredictResponse.FromString,
        )
        self._status = self._channel.unary_unary(
            _STATUS,
            request_serializer=tfs_pb2.GetModelStatusRequest.SerializeToString,
            response_deserializer=tfs_pb2.GetModelStatusResponse.FromString,
        )

    @property
    def connected(self) -> bool:
        """Whether it can be asked now; if not, it is tried again."""
        return self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    async def execute(self, key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        """Runs one version of a model on named input tensors; see `run`."""
        return await self.run(key, SIGNATURE, inputs, deadline)

    async def run(
        self, key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline
    ) -> Tensors:
        """Runs one signature of one version of a model on named input tensors.

        Raises:
            ServingError: what the backend's status means to a caller.
        """
        request = tfs_pb2.PredictRequest(
            model_spec=_spec(key, signature),
            inputs={name: tensors.encode_tfs(array, name) for name, array in inputs.items()},
        )
        try:
            response = await self._predict(request, timeout=deadline.left_s())
        except grpc.aio.AioRpcError as error:
            raise _translate(error, _label(key), deadline) from error
        try:
            return {
                name: tensors.decode_tfs(proto, f"outputs[{name!r}]")
                for name, proto in response.outputs.items()
            }
        except InvalidArgument as error:
            raise BackendFault(f"{_label(key)}: {error}") from error

    async def available(self, name: str) -> frozenset[int]:
        """The versions of a model that can be asked now; none for a model it doesn't know.

        Raises:
            ServingError: the backend can't say.
        """
        request = tfs_pb2.GetModelStatusRequest(model_spec=tfs_pb2.ModelSpec(name=name))
        deadline = Deadline.after(STATUS_TIMEOUT_S)
        try:
            response = await self._status(request, timeout=STATUS_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return frozenset()
            raise _translate(error, f"model {name!r}", deadline) from error
        states = response.model_version_status
        ready = tfs_pb2.ModelVersionStatus.AVAILABLE
        return frozenset(state.version for state in states if state.state == ready)

    async def forward(
        self, method: str, request: bytes, *, metadata: Metadata, deadline: Deadline
    ) -> bytes:
        """Calls any unary method with bytes as they are.

        Raises:
            grpc.aio.AioRpcError: the backend's own answer.
            BackendUnavailable: there is no connection to it.
        """
        call = self._raw.get(method)
        if call is None:
            call = self._raw[method] = self._channel.unary_unary(method, None, None)
        try:
            answer: bytes = await call(request, metadata=metadata, timeout=deadline.left_s())
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and not self.connected:
                raise _unavailable() from error  # gRPC's own text names the backend's address
            raise
        return answer

    async def close(self, grace_s: float | None = None) -> None:
        """Ends the connection and, at once or after a while, every call on it."""
        await self._channel.close(grace_s)


def _spec(key: ModelKey, signature: str) -> tfs_pb2.ModelSpec:
    version = tfs_pb2.Int64Value(value=key.version)
    return tfs_pb2.ModelSpec(name=key.name, version=version, signature_name=signature)


def _label(key: ModelKey) -> str:
    return f"model {key.name!r} version {key.version}"


def _unavailable() -> BackendUnavailable:
    return BackendUnavailable("the backend does not answer now; try again later")


def _translate(error: grpc.aio.AioRpcError, what: str, deadline: Deadline) -> ServingError:
    """The one place where a status of the backend becomes an error of ours."""
    first_line = (error.details() or "").partition("\n")[0][:_MAX_DETAIL]
    match error.code():
        # A backend that shuts down cancels what it still had to do.
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return _unavailable()
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return deadline.exceeded()
        case grpc.StatusCode.NOT_FOUND:
            return UnknownModel(f"{what} is not served by the backend; ask for another version")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return LimitExceeded(f"the backend is over a limit: {first_line}")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidArgument("tensors", f"the model refuses them: {first_line}")
        case code:
            return BackendFault(f"{what}: the backend answers {code.name}: {error.details()}")
