"""TensorFlow Serving's own API on the gateway's port: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

import grpc

from serving.gateway.backend import Backend
from serving.gateway.endpoint import Call, Endpoint

_SERVICES = {
    "PredictionService": ("Classify", "GetModelMetadata", "MultiInference", "Predict", "Regress"),
    "ModelService": ("GetModelStatus", "HandleReloadConfigRequest"),
}
METHODS = frozenset(
    f"/tensorflow.serving.{service}/{method}"
    for service, methods in _SERVICES.items()
    for method in methods
)
_OF_THIS_HOP = ("grpc-", "user-agent")  # metadata that each connection makes anew


class Passthrough(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not so at run time
    """Forwards each call to the backend as it is, and its answer or status back."""

    def __init__(self, backend: Backend, endpoint: Endpoint) -> None:
        self._backend = backend
        self._endpoint = endpoint

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, None for a method that isn't TensorFlow Serving's."""
        method = handler_call_details.method
        if method not in METHODS:
            return None
        metadata = [
            (key, value)
            for key, value in handler_call_details.invocation_metadata
            if not key.startswith(_OF_THIS_HOP)
        ]

        async def forward(request: bytes, call: Call) -> bytes:
            return await self._backend.forward(
                method, request, metadata=metadata, deadline=call.deadline
            )

        return self._endpoint.unary(method.removeprefix("/"), forward)
