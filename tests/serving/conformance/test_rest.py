"""Law: over HTTP a model answers what it answers over gRPC, in TensorFlow Serving's JSON."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import pytest

Ask = Callable[..., Any]

HALF = "/v1/models/half_plus_two"
PAIR = "/v1/models/pair"


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (f"{HALF}:predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
        (f"{HALF}:predict", {"inputs": [1.0, 2]}, {"outputs": [3.5, 4.0]}),
        (f"{HALF}:predict", {"inputs": {"x": [1]}}, {"outputs": [3.5]}),
        (f"{HALF}/versions/1:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
        (f"{HALF}/labels/stable:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
        (f"{HALF}/labels/canary:predict", {"instances": [1.0]}, {"predictions": [3.5]}),
        (
            f"{PAIR}:predict",
            {"instances": [{"a": 1, "b": 3.0}, {"a": 2.0, "b": 4}]},
            {"predictions": [{"sum": 4.0, "product": 3.0}, {"sum": 6.0, "product": 8.0}]},
        ),
        (
            f"{PAIR}:predict",
            {"signature_name": "serving_default", "inputs": {"a": [1, 2], "b": [3, 4]}},
            {"outputs": {"sum": [4.0, 6.0], "product": [3.0, 8.0]}},
        ),
        (
            f"{PAIR}:predict",
            {"signature_name": "upper", "instances": ["é a", b64(b"b")]},
            {"predictions": ["é A", "B"]},
        ),
        (
            f"{PAIR}:predict",
            {"signature_name": "first_bytes", "instances": [b64(b"\xffab"), "cd"]},
            {"predictions": [b64(b"\xff"), b64(b"c")]},
        ),
        (
            f"{PAIR}:predict",
            {"signature_name": "total", "inputs": {"x": [0.5, 0.25]}},
            {"outputs": 0.75},
        ),
    ],
)
def test_predict_by_row_and_by_column(ask: Ask, path: str, body: Any, answer: Any) -> None:
    assert ask("POST", path, body) == (200, answer)


def test_numbers_that_are_no_numbers_pass_both_ways(ask: Ask) -> None:
    body = b'{"instances": [NaN, Infinity, -Infinity]}'
    status, answer = ask("POST", f"{HALF}:predict", body)
    assert status == 200
    nan, high, low = answer["predictions"]
    assert (math.isnan(nan), high, low) == (True, math.inf, -math.inf)


def test_a_float_is_told_by_its_shortest_decimal(ask: Ask) -> None:
    body = {"inputs": {"a": [0.1], "b": [0.0]}}
    assert ask("POST", f"{PAIR}:predict", body).body["outputs"]["sum"] == [0.1]


@pytest.mark.parametrize(
    ("method", "body", "answer"),
    [
        (
            "regress",
            {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": [2.0]}]},
            [3.5, 4.0],
        ),
        (
            "regress",
            {"signature_name": "regress_x_to_y", "context": {"x": 4.0}, "examples": [{}, {}]},
            [5.0, 5.0],
        ),
        (
            "classify",
            {"signature_name": "classify_sign", "examples": [{"x": 1.0}]},
            [[["negative", -3.5], ["positive", 3.5]]],
        ),
        (
            "classify",
            {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0, "more": "text"}]},
            [[["", 3.5]]],
        ),
    ],
)
def test_classify_and_regress(ask: Ask, method: str, body: Any, answer: Any) -> None:
    assert ask("POST", f"{HALF}:{method}", body) == (200, {"results": answer})


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/nobody:predict", {"instances": [1.0]}, 404, "Latest(nobody)"),
        (f"{HALF}/versions/9:predict", {"instances": [1.0]}, 404, "Specific(half_plus_two, 9)"),
        (f"{HALF}/labels/no:predict", {"instances": [1.0]}, 400, "Unrecognized servable version"),
        (f"{HALF}:predict", b"", 400, "JSON Parse error"),
        (f"{HALF}:predict", b"{", 400, "JSON Parse error"),
        (f"{HALF}:predict", [], 400, "JSON Value"),
        (f"{HALF}:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (f"{HALF}:predict", {"inputs": [1.0], "instances": [1.0]}, 400, "expecting only one of"),
        (f"{HALF}:predict", {"instances": 1.0}, 400, "instances"),
        (f"{HALF}:predict", {"instances": []}, 400, "No values in 'instances' array"),
        (f"{HALF}:predict", {"instances": ["a"]}, 400, "is not of expected type: float"),
        (f"{HALF}:predict", {"instances": [[1.0], [1.0, 2.0]]}, 400, ""),
        (f"{HALF}:predict", {"signature_name": 1}, 400, "key must be a string value"),
        (f"{HALF}:predict", {"signature_name": "no", "instances": [1.0]}, 400, "no"),
        (f"{PAIR}:predict", {"instances": [1.0]}, 400, "expecting list of objects"),
        (f"{PAIR}:predict", {"instances": [{"a": 1.0}]}, 400, "keys must be equal to: a,b"),
        (f"{PAIR}:predict", {"inputs": {"a": [1.0]}}, 400, "Missing named input: b"),
        (f"{HALF}:regress", {"signature_name": "regress_x_to_y"}, 400, "examples"),
        (f"{HALF}:regress", {"signature_name": "regress_x_to_y", "examples": []}, 400, ""),
        (f"{HALF}:explain", {"instances": [1.0]}, 400, f"Malformed request: POST {HALF}:explain"),
        (HALF, {"instances": [1.0]}, 400, f"Malformed request: POST {HALF}"),
    ],
)
def test_what_is_wrong_has_its_status_and_one_form(
    ask: Ask, path: str, body: Any, status: int, message: str
) -> None:
    answer = ask("POST", path, body)
    assert answer.status == status
    assert list(answer.body) == ["error"]
    assert message in answer.body["error"]


def test_status_and_metadata_are_the_messages_as_json(ask: Ask) -> None:
    (found,) = ask("GET", f"{HALF}/versions/1").body["model_version_status"]
    assert found == {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    versions = ask("GET", HALF).body["model_version_status"]
    assert sorted(each["version"] for each in versions) == ["1", "2"]
    found = ask("GET", f"{HALF}/labels/stable/metadata").body
    assert found["model_spec"]["name"] == "half_plus_two"
    assert found["model_spec"]["version"] == "1"
    signatures = found["metadata"]["signature_def"]["signature_def"]
    x = signatures["serving_default"]["inputs"]["x"]
    assert x["dtype"] == "DT_FLOAT"
    assert x["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]


def test_what_is_not_there_can_not_be_looked_at(ask: Ask) -> None:
    assert ask("GET", "/v1/models/nobody").status == 404
    assert ask("GET", f"{HALF}/versions/9").status == 404


def test_prometheus_finds_what_it_looks_for(ask: Ask) -> None:
    ask("POST", f"{HALF}:predict", {"instances": [1.0]})
    status, text = ask("GET", "/monitoring/prometheus/metrics")
    assert status == 200
    assert "# TYPE :tensorflow:serving:request_count counter" in text
    lines = text.splitlines()
    counted = [line for line in lines if line.startswith(":tensorflow:serving:request_count{")]
    assert any('model_name="half_plus_two"' in line and 'status="OK"' in line for line in counted)
    assert any(line.startswith(":tensorflow:serving:request_latency_bucket{") for line in lines)
