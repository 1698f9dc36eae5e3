"""A bundle for the apps of this device, over HTTP on the loopback interface only.

    GET  /healthz                       200 while it answers
    POST /v1/models/<name>:predict      of a model that classifies: one answer
    POST /v1/models/<name>:generate     of a language model: a line of JSON for each piece of text

The messages are in `services`; those of `:predict` are the gateway's `Predict` in JSON, so that an
app may ask either.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import urllib.parse
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bundle.errors import BundleError
from edge.errors import EdgeError
from edge.runner import EdgeRunner
from edge.services import Answer, Lines, Predictions, Refused, Texts

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 << 20
_TIMEOUT_S = 30.0  # of a connection that sends nothing, or takes nothing


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
        writes = runner.manifest.generation is not None
        service = Texts(runner, answered) if writes else Predictions(runner, answered)

        class Handler(_Handler):
            served = service

        try:
            self._server = _Server(("127.0.0.1", port), Handler)
        except OSError as error:
            raise EdgeError(
                f"port: {port} can't be had: {error.strerror}; give another one"
            ) from error
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}{service.path}"

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


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    served: Predictions | Texts
    protocol_version = "HTTP/1.1"
    server_version = "tensorseek"
    sys_version = ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """Health."""
        self._reply(lambda: {"status": "ok"} if self.path == "/healthz" else self._unknown())

    def do_POST(self) -> None:
        """Predictions, or texts."""
        self._reply(self._asked)

    def log_message(self, *_: Any) -> None:
        """Leaves the device's log alone."""

    def _asked(self) -> Answer | Lines:
        if self.path != self.served.path:
            return self._unknown()
        return self.served.answer(self._body())

    def _unknown(self) -> Answer:
        message = f"{self.path[:100]}: not here; POST to {self.served.path}"
        raise Refused(HTTPStatus.NOT_FOUND, message)

    def _body(self) -> bytes:
        given = self.headers.get("Content-Length", "")
        if not (given.isascii() and given.isdecimal()):
            self.close_connection = True
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "Content-Length: is missing; send it")
        size = int(given)
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            problem = f"body: {size} bytes; the limit is {MAX_BODY_BYTES}"
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problem)
        return self.rfile.read(size)

    def _reply(self, answer: Callable[[], Answer | Lines]) -> None:
        try:
            _check_host(self.headers.get("Host", ""))
            found = answer()
        except Refused as error:
            self._send({"error": str(error)}, error.status, error.retry_after_s)
        except (BundleError, EdgeError) as error:
            self._send({"error": str(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)
        else:
            if isinstance(found, dict):
                self._send(found, HTTPStatus.OK)
            else:
                self._send_lines(found)

    def _send(self, content: Answer, status: HTTPStatus, retry_after_s: int | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if retry_after_s is not None:
            self.send_header("Retry-After", str(retry_after_s))
        self.end_headers()
        self.wfile.write(data)

    def _send_lines(self, lines: Lines) -> None:
        """Until the last, or until the caller is gone; the connection ends with them."""
        with closing(lines):
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for line in lines:
                    self.wfile.write(json.dumps(line).encode() + b"\n")
            except (BundleError, EdgeError) as error:
                self.wfile.write(json.dumps({"error": str(error)}).encode() + b"\n")


def _check_host(host: str) -> None:
    """A page on the web may point a name of its own at this address: its calls are refused."""
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
        is_here = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        is_here = False
    if not is_here:
        raise Refused(HTTPStatus.FORBIDDEN, "Host: is not of this machine")
