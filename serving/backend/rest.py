"""TensorFlow Serving's HTTP API, on an event loop of its own.

    GET  /v1/models/M[/versions/N | /labels/L][/metadata]
    POST /v1/models/M[/versions/N | /labels/L]:predict | :classify | :regress
    GET  the path of monitoring.config: Prometheus

The loop reads and writes; a pool of threads answers, as those of gRPC do.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

import grpc
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.backend import json_answers, json_examples, json_requests
from serving.backend.api import Api
from serving.backend.config import BackendConfig, Rest
from serving.backend.metrics import Metrics
from serving.errors import ConfigError, DeadlineExceeded, InvalidArgument, LimitExceeded, status_of

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_ASKS = re.compile(_MODEL + ":(?P<method>classify|regress|predict)", re.IGNORECASE)
_LOOKS = re.compile(_MODEL + "(?P<metadata>/metadata)?", re.IGNORECASE)

_MAX_DIGITS = 100  # of a version, with zeros before it

# tensorflow_serving/model_servers/http_server.cc, `ToHTTPStatusCode`.
_HTTP = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}

_log = logging.getLogger(__name__)


class RestServer:
    """Serves HTTP between `start` and `stop`."""

    def __init__(self, api: Api, metrics: Metrics, config: BackendConfig, rest: Rest) -> None:
        self._api = api
        self._metrics = metrics
        self._config = config
        self._rest = rest
        self._pool = ThreadPoolExecutor(config.grpc_threads, thread_name_prefix="rest")
        self._waiting = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return int(self._runner.addresses[0][1]) if self._runner else 0

    def start(self) -> None:
        """Listens.

        Raises:
            ConfigError: the port can't be had.
        """
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self) -> None:
        """Answers the requests in flight, for as long as the config has it, then closes."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self._pool.shutdown(cancel_futures=True)

    async def _listen(self) -> None:
        app = web.Application(client_max_size=self._config.max_message_bytes)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=self._config.drain_s)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._config.host, self._rest.port).start()
        except OSError as error:
            await runner.cleanup()
            raise ConfigError(
                f"rest.port: {self._rest.port} on {self._config.host} can't be had: "
                f"{error.strerror}; give another one"
            ) from error
        self._runner = runner

    async def _close(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        if request.method == "GET" and request.path == self._rest.metrics_path:
            return web.Response(body=self._metrics.page(), content_type="text/plain")
        try:
            body = await self._answer_in_time(request)
            response = web.Response(body=body, content_type="application/json")
        except Exception as error:  # noqa: BLE001  # a caller sees a status, never a traceback
            response = _failed(error)
        if self._rest.cors:
            response.headers.update(_CORS)
        return response

    async def _answer_in_time(self, request: web.Request) -> bytes:
        limit = self._config.grpc_threads + self._config.max_queue
        if self._waiting >= limit:
            raise LimitExceeded(f"more than {limit} requests wait already; try again")
        self._waiting += 1
        try:
            body = await _body(request)
            answer = self._loop.run_in_executor(
                self._pool, self._answer, request.method, request.rel_url.raw_path, body
            )
            return await asyncio.wait_for(answer, self._rest.timeout_s)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the answer takes longer than {self._rest.timeout_s:g} s"
            ) from None
        finally:
            self._waiting -= 1

    def _answer(self, http_method: str, path: str, body: bytes) -> bytes:
        """One request, in a thread."""
        if http_method == "OPTIONS" and self._rest.cors:
            return b""
        if http_method == "POST" and (asked := _ASKS.fullmatch(path)):
            method = asked["method"].lower()
            model = unquote(asked["name"])
            with self._metrics.measured(model, method.capitalize(), "REST"):
                if method == "predict":
                    return self._predict(asked, body)
                return self._infer(method, asked, body)
        if http_method == "GET" and (asked := _LOOKS.fullmatch(path)):
            return self._metadata(asked) if asked["metadata"] else self._status(asked)
        raise InvalidArgument("Malformed request", f"{http_method} {path}")

    def _predict(self, asked: re.Match[str], body: bytes) -> bytes:
        document = json_requests.parse(body)
        name = json_requests.signature_name(document)
        with self._api.lease(_specified(predict_pb2.PredictRequest(), asked)) as lease:
            signature = lease.servable.function(name).signature
            inputs, by_row = json_requests.read_predict(document, signature)
            outputs = lease.servable.compute(name, inputs)
        return json_answers.predictions(outputs, by_row=by_row)

    def _infer(self, method: str, asked: re.Match[str], body: bytes) -> bytes:
        document = json_requests.parse(body)
        classifies = method == "classify"
        request = (
            classification_pb2.ClassificationRequest()
            if classifies
            else regression_pb2.RegressionRequest()
        )
        _specified(request, asked)
        request.model_spec.signature_name = json_requests.signature_name(document)
        json_examples.read(document, request)
        if classifies:
            return json_answers.classifications(self._api.classify(request).result)
        return json_answers.regressions(self._api.regress(request).result)

    def _status(self, asked: re.Match[str]) -> bytes:
        request = _specified(get_model_status_pb2.GetModelStatusRequest(), asked)
        return json_answers.dump(_as_dict(self._api.status(request)))

    def _metadata(self, asked: re.Match[str]) -> bytes:
        request = _specified(get_model_metadata_pb2.GetModelMetadataRequest(), asked)
        request.metadata_field.append("signature_def")
        response = self._api.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return json_answers.dump(
            {
                "model_spec": _as_dict(response.model_spec),
                "metadata": {"signature_def": _as_dict(signatures)},
            }
        )


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise LimitExceeded(f"the request is too large: {error.text}") from error


def _specified(request: Any, asked: re.Match[str]) -> Any:
    """Fills a request's `model_spec` from the path."""
    spec = request.model_spec
    spec.name = unquote(asked["name"])
    if asked["version"]:
        # Checked first: Python refuses to read thousands of digits.
        if len(asked["version"]) > _MAX_DIGITS or int(asked["version"]) >= 1 << 63:
            raise InvalidArgument(
                "Failed to convert version", f"{asked['version'][:40]} to numeric."
            )
        spec.version.value = int(asked["version"])
    elif asked["label"]:
        spec.version_label = unquote(asked["label"])
    return request


def _failed(error: Exception) -> web.Response:
    code, message = status_of(error)
    if code is grpc.StatusCode.INTERNAL:
        _log.error("request failed", exc_info=error)
    return web.Response(
        body=json_answers.error(message),
        status=_HTTP.get(code, 500),
        content_type="application/json",
    )


def _as_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
