"""TensorFlow Serving's own API on the gateway's port: bytes in, bytes out."""

from __future__ import annotations

import functools
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from protos import tfs_pb2
from serving.errors import Forbidden, InvalidArgument
from serving.gateway.call import Call
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.endpoint import Endpoint
from serving.gateway.pool import RELOAD, Pool

_SERVICES = {
    "PredictionService": ("Classify", "GetModelMetadata", "MultiInference", "Predict", "Regress"),
    "ModelService": ("GetModelStatus", "HandleReloadConfigRequest"),
}
METHODS = frozenset(
    f"/tensorflow.serving.{service}/{method}"
    for service, methods in _SERVICES.items()
    for method in methods
)
# Metadata that each connection makes anew, or that is for the gateway alone.
_OF_THIS_HOP = ("grpc-", "user-agent", "authorization", "x-api-key")
_SEVERAL = "/tensorflow.serving.PredictionService/MultiInference"  # models, one a task
_LOOPBACK = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")


class Passthrough(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not so at run time
    """Forwards each call to the backend as it is, and its answer or status back."""

    def __init__(
        self, pool: Pool, catalog: Catalog, endpoint: Endpoint, config: GatewayConfig
    ) -> None:
        self._pool = pool
        self._catalog = catalog
        self._reload_from_loopback = config.reload_from_loopback
        self._handlers = {method: self._handler(method, endpoint) for method in METHODS}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a call, None for a method that isn't TensorFlow Serving's."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, method: str, endpoint: Endpoint) -> grpc.RpcMethodHandler[Any, Any]:
        async def forward(request: bytes, call: Call) -> bytes:
            name = self._checked(method, request, call)
            if name in self._catalog:
                call.model = name
            metadata = [
                pair for pair in call.origin.metadata if not pair[0].startswith(_OF_THIS_HOP)
            ]
            return await self._pool.forward(
                method, name, request, metadata=metadata, deadline=call.deadline
            )

        # The call to the backend ends at the deadline by itself.
        return endpoint.unary(method.removeprefix("/"), forward, timed=False)

    def _checked(self, method: str, request: bytes, call: Call) -> str:
        """The model that a call asks, if it may.

        Raises:
            Forbidden: the caller may not.
        """
        visitor = call.visitor
        if method == RELOAD:
            here = self._reload_from_loopback and call.origin.peer.startswith(_LOOPBACK)
            if not (visitor.is_admin or here):
                raise Forbidden("HandleReloadConfigRequest: needs the key of an admin")
            return ""
        if visitor.key is None or visitor.key.models is None:
            return "" if method == _SEVERAL else _first_model(request)
        if method == _SEVERAL:
            raise Forbidden("MultiInference: the key is for single models; ask them one by one")
        name = _model(request)
        visitor.check(name)
        return name


def _first_model(request: bytes) -> str:
    """The model's name, if the message begins with it as every usual writer's does.

    What is behind it, maybe megabytes, stays unread.
    """
    if len(request) < 2 or request[0] != 0x0A or request[1] > 0x7F:  # field 1, and a short one
        return ""
    return _name(request[2 : 2 + request[1]])


@functools.lru_cache(maxsize=256)  # of at most 127 bytes each: few differ
def _name(spec: bytes) -> str:
    try:
        return tfs_pb2.ModelSpec.FromString(spec).name
    except DecodeError:
        return ""


def _model(request: bytes) -> str:
    """The model's name as the backend will read it: `model_spec` is field 1 of every request."""
    try:
        return tfs_pb2.GetModelStatusRequest.FromString(request).model_spec.name
    except DecodeError as error:
        raise InvalidArgument(
            "request", "is not a valid message of TensorFlow Serving's"
        ) from error
