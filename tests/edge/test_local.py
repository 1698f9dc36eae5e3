"""Laws of the loopback server: the runner's answers, bounds on what comes in, and no one else."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge import local
from edge.errors import EdgeError
from edge.local import LocalServer
from edge.runner import EdgeRunner

PREDICT = "/v1/models/tiny:predict"


@pytest.fixture(scope="module")
def runner(bundle: Path) -> EdgeRunner:
    return EdgeRunner.open(bundle)


@pytest.fixture(scope="module")
def answered() -> list[str]:
    return []


@pytest.fixture(scope="module")
def port(runner: EdgeRunner, answered: list[str]) -> Iterator[int]:
    server = LocalServer(runner, 0, lambda: answered.append("once"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.port
    server.stop()
    thread.join()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    return answer.status, found


def test_answers_are_the_runner_s_in_order_and_confirm_once(
    port: int, runner: EdgeRunner, answered: list[str]
) -> None:
    texts = ["a good film", "awful", "a dull film"]
    body = {"inputs": [{"text": text} for text in texts]}
    for _ in range(2):
        status, found = ask(port, "POST", PREDICT, body)
        assert status == 200
    assert (found["model"], found["modelVersion"]) == ("tiny", "1")
    for text, result in zip(texts, found["results"], strict=True):
        best = runner.predict(text)
        assert [item["label"] for item in result["labels"]["labels"]] == [b.label for b in best]
        assert result["labels"]["labels"][0]["score"] == pytest.approx(best[0].score)
    assert answered == ["once"]


def test_many_clients_at_once_each_get_their_own_answer(port: int, runner: EdgeRunner) -> None:
    texts = ["a good film", "awful", "fine actor", "dull plot"] * 8
    expected = {text: runner.predict(text)[0].score for text in texts}

    def score(text: str) -> float:
        _, found = ask(port, "POST", PREDICT, {"inputs": [{"text": text}]})
        return float(found["results"][0]["labels"]["labels"][0]["score"])

    with ThreadPoolExecutor(8) as pool:
        for text, found in zip(texts, pool.map(score, texts), strict=True):
            assert found == pytest.approx(expected[text])


def test_health_and_unknown_paths(port: int) -> None:
    assert ask(port, "GET", "/healthz") == (200, {"status": "ok"})
    status, found = ask(port, "POST", "/v1/models/other:predict", {})
    assert status == 404
    assert f"POST to {PREDICT}" in found["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"no json", "body: "),
        ({}, "body: Object missing required field `inputs`"),
        ({"inputs": [], "x": 1}, "body: Object contains unknown field `x`"),
        ({"inputs": []}, "inputs: 0 in one call; send 1 to 64"),
        ({"inputs": [{"text": "a"}] * 65}, "inputs: 65 in one call"),
        ({"inputs": [{}]}, "inputs[0]: has not exactly one of `text` and `image`"),
        ({"inputs": [{"text": "good"}, {"text": " "}]}, "inputs[1].text: is empty"),
        ({"inputs": [{"image": "?"}]}, "inputs[0].image: is no base64"),
        (
            {"inputs": [{"image": base64.b64encode(b"x").decode()}]},
            "inputs[0].image: is not what this model takes; send `text`",
        ),
    ],
)
def test_a_bad_request_names_the_field(port: int, body: Any, message: str) -> None:
    status, found = ask(port, "POST", PREDICT, body)
    assert status == 400
    assert found["error"].startswith(message)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_body_gets_an_answer_in_json(port: int, body: bytes) -> None:
    status, _ = ask(port, "POST", PREDICT, body)
    assert status in (200, 400)


def test_a_body_over_the_limit_is_refused_unread(port: int) -> None:
    headers = {"Content-Length": str(local.MAX_BODY_BYTES + 1)}
    status, found = ask(port, "POST", PREDICT, b"x", **headers)
    assert status == 413
    assert "the limit is" in found["error"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "10.0.0.1", "", "[::1"])
def test_a_page_of_the_web_under_its_own_name_is_refused(port: int, host: str) -> None:
    status, found = ask(port, "GET", "/healthz", Host=host)
    assert (status, found) == (403, {"error": "Host: is not of this machine"})


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:9", "[::1]:9", "[::1]"])
def test_names_of_this_machine_are_taken(port: int, host: str) -> None:
    assert ask(port, "GET", "/healthz", Host=host)[0] == 200


def test_a_port_that_is_taken_is_named(port: int, runner: EdgeRunner) -> None:
    with pytest.raises(EdgeError, match=f"port: {port} can't be had"):
        LocalServer(runner, port)
