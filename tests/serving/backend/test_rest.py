"""Law: HTTP is bounded as gRPC is, tells every fault in one form, and ends with the server.

What it answers is the conformance suite's matter.
"""

from __future__ import annotations

import functools
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.backend import json_requests
from serving.backend.config import BackendConfig, Rest
from serving.backend.server import Backend
from serving.errors import ConfigError, LimitExceeded

WAIT_S = 30.0
LONG = 1500  # rounds of the probe's `slow`: about a second of work

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, publish_probe: Callable[..., Path]) -> Any:
    root = tmp_path_factory.mktemp("rest")
    publish_probe(root, 1)

    def make(**changes: Any) -> BackendConfig:
        rest = Rest(port=0, **changes.pop("rest", {}))
        return BackendConfig(models=root, port=0, drain_s=5.0, rest=rest, **changes)

    return make


@pytest.fixture(scope="module")
def backend(config: Any) -> Iterator[Backend]:
    with Backend(config(max_message_bytes=10_000)) as backend:
        yield backend


def request(backend: Backend, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", backend.rest_port, timeout=WAIT_S)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data)
    response = connection.getresponse()
    found = response.read()
    connection.close()
    assert response.headers["Content-Type"] == "application/json"
    return response.status, json.loads(found)


@pytest.fixture
def ask(backend: Backend) -> Ask:
    return functools.partial(request, backend)


PREDICT = "/v1/models/probe:predict"


def test_an_answer_that_takes_too_long_is_given_up(config: Any) -> None:
    body = {"signature_name": "slow", "instances": [{"x": [1.0], "turns": LONG}]}
    with Backend(config(rest={"timeout_s": 0.2})) as backend:
        answer = request(backend, "POST", PREDICT, body)
    assert answer == (504, {"error": "the answer takes longer than 0.2 s"})


def test_a_request_over_the_limit_is_refused(ask: Ask) -> None:
    status, answer = ask("POST", PREDICT, b" " * 10_001)
    assert status == 429
    assert answer["error"].startswith("the request is too large")


def test_a_fault_inside_stays_inside(ask: Ask) -> None:
    status, answer = ask("POST", PREDICT, {"signature_name": "faulty", "instances": [1.0]})
    assert (status, answer) == (500, {"error": "internal error; see the server's log"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v2/models/probe"),
        ("DELETE", "/v1/models/probe"),
        ("POST", "/v1/models/a/b:predict"),
        ("GET", "/v1/models/probe/versions/1/more"),
        ("GET", "/v1/models/probe/versions/x"),
        ("GET", "/monitoring/prometheus/metrics"),  # nobody asked for it
    ],
)
def test_a_path_that_means_nothing_is_named(ask: Ask, method: str, path: str) -> None:
    assert ask(method, path) == (400, {"error": f"Malformed request: {method} {path}"})


def test_names_are_taken_out_of_the_paths_escapes(ask: Ask) -> None:
    assert ask("GET", "/v1/models/pr%6Fbe")[0] == 200
    assert ask("GET", "/v1/models/%2F..%2F")[0] == 404
    assert ask("GET", "/v1/models/probe/labels/st%61ble") == (
        400,
        {"error": "Unrecognized servable version label: stable"},
    )
    for version in (str(1 << 63), "9" * 5000):
        status, answer = ask("GET", f"/v1/models/probe/versions/{version}")
        assert status == 400
        assert answer["error"].startswith(f"Failed to convert version: {version[:19]}")


def test_a_port_that_is_taken_is_named(backend: Backend, config: Any) -> None:
    second = Backend(
        BackendConfig(models=config().models, port=0, drain_s=0, rest=Rest(port=backend.rest_port))
    )
    with pytest.raises(ConfigError, match=rf"rest\.port: {backend.rest_port} on 127.0.0.1 can't"):
        second.start()
    second.stop()


def test_it_ends_with_the_server(config: Any) -> None:
    with Backend(config()) as backend:
        port = backend.rest_port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
        connection.request("GET", "/v1/models/probe")
        assert connection.getresponse().status == 200  # and is kept open
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S).connect()


def test_pages_of_other_sites_may_ask_if_they_are_let(config: Any, ask: Ask) -> None:
    with Backend(config(rest={"cors": True})) as backend:
        connection = http.client.HTTPConnection("127.0.0.1", backend.rest_port, timeout=WAIT_S)
        for method, path in (("OPTIONS", PREDICT), ("GET", "/v1/models/nobody")):
            connection.request(method, path)
            response = connection.getresponse()
            response.read()
            assert response.headers["Access-Control-Allow-Origin"] == "*"
        connection.close()
    assert ask("OPTIONS", PREDICT)[0] == 400


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[" * ((1 << 20) + 1), "has 1048577 lists or objects; the limit is 1048576"),
        (b"," * ((1 << 23) + 1), "has 8388609 values; the limit is 8388608"),
    ],
)
def test_json_that_would_take_too_much_memory_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(LimitExceeded, match=problem):
        json_requests.parse(body)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.binary(max_size=60)
    | st.text('[]{}",:0123456789.eNaInfinitybtrulsx64 ', max_size=60).map(str.encode),
    method=st.sampled_from(["predict", "classify", "regress"]),
    wrapped=st.booleans(),
)
def test_any_body_gets_a_status_in_one_form_and_the_next_request_is_served(
    ask: Ask, body: bytes, method: str, wrapped: bool
) -> None:
    sent = b'{"instances": %s, "examples": %s}' % (body, body) if wrapped else body
    status, answer = ask("POST", f"/v1/models/probe:{method}", sent)
    assert status in {200, 400}
    assert status == 200 or list(answer) == ["error"]
    assert ask("POST", PREDICT, {"instances": [[1.0]]})[0] == 200
