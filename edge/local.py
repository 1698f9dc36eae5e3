"""A bundle for the apps of this device, over HTTP on the loopback interface only.

    GET  /healthz                       200 while it answers
    POST /v1/models/<name>:predict      {"inputs": [{"text": "a fine film"}]}
                                        {"inputs": [{"image": "<base64>"}]}

The messages are those of the gateway's `Predict` in JSON, so that an app may ask either.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import logging
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from bundle.errors import BundleError, InputError
from bundle.manifest import Record
from bundle.postprocess import LabelScore
from bundle.preprocess import Raw
from edge.errors import EdgeError
from edge.runner import EdgeRunner

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 << 20
MAX_INPUTS = 64
_TIMEOUT_S = 30.0  # of a connection that sends nothing


class _Input(Record, frozen=True, kw_only=True):
    text: str | None = None
    image: str | None = None  # base64


class _Request(Record, frozen=True, kw_only=True):
    inputs: tuple[_Input, ...]


class _Refused(Exception):
    """What is wrong with a request."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class LocalServer:
    """Answers on `127.0.0.1:port` between `start` and `stop`.

    Args:
        runner: of which one call at a time is made.
        port: 0 takes a free one; see `port` afterwards.
        answered: called after the first answer.

    Raises:
        EdgeError: the port can't be had.
    """

    def __init__(
        self, runner: EdgeRunner, port: int, answered: Callable[[], None] = lambda: None
    ) -> None:
        self._service = _Service(runner, answered)
        service = self._service

        class Handler(_Handler):
            served = service

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise EdgeError(
                f"port: {port} can't be had: {error.strerror}; give another one"
            ) from error
        self.port = int(self._server.server_address[1])

    def run(self) -> None:
        """Answers until `stop` is called from another thread."""
        self._server.serve_forever()

    def stop(self) -> None:
        """Ends `run`, and closes the port."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (its name)
        """A client that went away is no news; the rest is for the log, not for a terminal."""
        _log.info("a connection broke", exc_info=True)


class _Service:
    """The runner, behind a lock: an interpreter keeps state while it runs."""

    def __init__(self, runner: EdgeRunner, answered: Callable[[], None]) -> None:
        self._runner = runner
        self._answered: Callable[[], None] | None = answered
        self._lock = threading.Lock()

    @property
    def path(self) -> str:
        return f"/v1/models/{self._runner.manifest.name}:predict"

    def predict(self, body: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(body, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"body: {error}") from error
        if not 1 <= len(request.inputs) <= MAX_INPUTS:
            problem = f"inputs: {len(request.inputs)} in one call; send 1 to {MAX_INPUTS}"
            raise _Refused(HTTPStatus.BAD_REQUEST, problem)
        manifest = self._runner.manifest
        return {
            "model": manifest.name,
            "modelVersion": str(manifest.version),  # an int64, which JSON has as text
            "results": [self._answer(each, place) for place, each in enumerate(request.inputs)],
        }

    def _answer(self, given: _Input, place: int) -> dict[str, Any]:
        try:
            with self._lock:
                labels = self._runner.predict(_raw(given, place))
                self._note_answer()
        except InputError as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, f"inputs[{place}].{error}") from error
        return {"labels": {"labels": _json(labels)}}

    def _note_answer(self) -> None:
        answered, self._answered = self._answered, None
        if answered:
            answered()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    served: _Service
    protocol_version = "HTTP/1.1"
    server_version = "tensorseek"
    sys_version = ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """Health."""
        self._reply(lambda: {"status": "ok"} if self.path == "/healthz" else self._unknown())

    def do_POST(self) -> None:
        """Predictions."""
        self._reply(self._predict)

    def log_message(self, *_: Any) -> None:
        """Leaves the device's log alone."""

    def _predict(self) -> dict[str, Any]:
        if self.path != self.served.path:
            return self._unknown()
        return self.served.predict(self._body())

    def _unknown(self) -> dict[str, Any]:
        message = f"{self.path[:100]}: not here; POST to {self.served.path}"
        raise _Refused(HTTPStatus.NOT_FOUND, message)

    def _body(self) -> bytes:
        given = self.headers.get("Content-Length", "")
        if not (given.isascii() and given.isdecimal()):
            self.close_connection = True
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length: is missing; send it")
        size = int(given)
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            problem = f"body: {size} bytes; the limit is {MAX_BODY_BYTES}"
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
        return self.rfile.read(size)

    def _reply(self, answer: Callable[[], dict[str, Any]]) -> None:
        try:
            _check_host(self.headers.get("Host", ""))
            status, content = HTTPStatus.OK, answer()
        except _Refused as error:
            status, content = error.status, {"error": str(error)}
        except (BundleError, EdgeError) as error:
            status, content = HTTPStatus.INTERNAL_SERVER_ERROR, {"error": str(error)}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _raw(given: _Input, place: int) -> Raw:
    if (given.text is None) == (given.image is None):
        problem = f"inputs[{place}]: has not exactly one of `text` and `image`; send one"
        raise _Refused(HTTPStatus.BAD_REQUEST, problem)
    if given.image is None:
        return given.text or ""
    try:
        return base64.b64decode(given.image, validate=True)
    except (binascii.Error, ValueError) as error:
        problem = f"inputs[{place}].image: is no base64: {error}"
        raise _Refused(HTTPStatus.BAD_REQUEST, problem) from error


def _json(labels: Sequence[LabelScore]) -> list[dict[str, Any]]:
    return [{"label": item.label, "score": item.score} for item in labels]


def _check_host(host: str) -> None:
    """A page on the web may point a name of its own at this address: its calls are refused."""
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        is_here = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        raise _Refused(HTTPStatus.FORBIDDEN, "Host: is not of this machine")
