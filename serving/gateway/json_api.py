"""Predictions over HTTP for those who have curl: the messages of `inference.proto` as JSON.

POST /v1/models/movie-sentiment:predict   {"inputs": [{"text": "a fine film"}]}
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format

from protos import inference_pb2
from serving.errors import InvalidArgument, LimitExceeded, Unauthenticated
from serving.gateway.call import Call, Origin
from serving.gateway.endpoint import Endpoint, Refused
from serving.gateway.service import Inference
from serving.gateway.types import shown

PATH = r"/v1/models/{name:[^/:]+}:predict"

_INLINE_BYTES = 16 << 10  # reading these takes less than handing them to a thread
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class JsonApi:
    """Answers POST requests as gRPC's Predict does.

    Args:
        max_bytes: of one request.
        certified: whether a caller must have shown a certificate.
    """

    def __init__(
        self, inference: Inference, endpoint: Endpoint, max_bytes: int, *, certified: bool
    ) -> None:
        self._inference = inference
        self._endpoint = endpoint
        self._max_bytes = max_bytes
        self._certified = certified

    async def predict(self, request: web.Request) -> web.Response:
        """The answer, or `{"error": {"code": …, "message": …}}` with a status that fits."""

        async def work(call: Call) -> inference_pb2.PredictResponse:
            message = await self._read(request)
            return await self._inference.predict(message, call)

        try:
            answer = await self._endpoint.through("PredictJson", _origin(request), work)
        except Refused as refused:
            return _refuse(refused)
        text = json_format.MessageToJson(
            answer,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=False,
            indent=None,
        )
        return web.Response(text=text + "\n", content_type="application/json")

    async def _read(self, request: web.Request) -> inference_pb2.PredictRequest:
        if self._certified and not request.get_extra_info("peercert"):
            raise Unauthenticated("certificate: is missing; send one of the gateway's authority")
        try:
            data = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise LimitExceeded(
                f"request: is larger than max_message_bytes={self._max_bytes}; send fewer inputs"
            ) from error
        if len(data) <= _INLINE_BYTES:
            message = parse(data)
        else:
            message = await asyncio.to_thread(parse, data)
        name = request.match_info["name"]
        if message.model not in {"", name}:
            raise InvalidArgument("model", f"is {shown(message.model)}, the path says {name!r}")
        message.model = name
        return message


def parse(data: bytes) -> inference_pb2.PredictRequest:
    """Reads a request.

    Raises:
        InvalidArgument: it is no JSON, or not such a message; names the field.
    """
    try:
        return json_format.Parse(data, inference_pb2.PredictRequest())
    except (json_format.ParseError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidArgument("request", f"is no PredictRequest as JSON: {reason}") from error


def _origin(request: web.Request) -> Origin:
    peer = request.get_extra_info("peername")
    host = f"ipv4:{peer[0]}:{peer[1]}" if peer else ""
    metadata: Any = [(key.lower(), value) for key, value in request.headers.items()]
    return Origin(host, metadata, None)


def _refuse(refused: Refused) -> web.Response:
    headers = {}
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refused.retry_after_s)))
    error = {"code": refused.code.name, "message": refused.message}
    status = _HTTP.get(refused.code, 500)
    return web.json_response({"error": error}, status=status, headers=headers)
