"""Laws of the HTTP side: alive, ready and counted are three questions, and labels are bounded."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub

Get = Callable[[str], tuple[int, str]]


@pytest.fixture
def get(gateway: Any) -> Get:
    def fetch(path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{gateway.http_port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return fetch


def samples(get: Get) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(get("/metrics")[1])
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_alive_is_not_ready(
    get: Get, serving: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    status, body = get("/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "models": {"tiny": 1}})
    serving.stop()
    eventually(lambda: get("/readyz")[0] == 503)
    assert json.loads(get("/readyz")[1]) == {
        "ready": False,
        "reason": "the backend does not answer now; try again later",
        "models": {"tiny": 0},
    }
    assert get("/healthz") == (200, '{"alive": true}')


def test_a_backend_without_our_models_is_not_ready(
    get: Get, serving: Any, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    serving.served = {}
    eventually(lambda: get("/readyz")[0] == 503)
    reason = json.loads(get("/readyz")[1])["reason"]
    assert reason == "the backend serves none of the published models"


def ask(channel: grpc.Channel, model: str, version: int, *texts: str) -> None:
    inputs = [inference_pb2.Input(text=text) for text in texts]
    request = inference_pb2.PredictRequest(model=model, version=version, inputs=inputs)
    try:
        InferenceStub(channel).Predict(request)
    except grpc.RpcError as error:
        assert error.code() is not grpc.StatusCode.INTERNAL  # noqa: PT017


def test_metrics_name_models_that_exist_and_nothing_a_caller_made_up(
    get: Get, channel: grpc.Channel
) -> None:
    ask(channel, "tiny", 0, "good", "bad")
    ask(channel, "tiny", 77, "good")
    ask(channel, "made-up", 0, "good")
    found = samples(get)

    def requests(model: str, version: str, code: str) -> float:
        labels = {"model": model, "version": version, "method": "Predict", "code": code}
        return found["tensorseek_requests_total", frozenset(labels.items())]

    assert requests("tiny", "1", "OK") == 1
    assert requests("tiny", "", "NOT_FOUND") == 1
    assert requests("", "", "NOT_FOUND") == 1
    assert found["tensorseek_batch_rows_sum", frozenset({("model", "tiny")})] == 2
    assert found["tensorseek_models_available", frozenset()] == 1
    for stage in ("preprocess", "backend"):
        assert found[f"tensorseek_{stage}_seconds_count", frozenset({("model", "tiny")})] == 1
    text = get("/metrics")[1]
    assert "made-up" not in text
    assert "77" not in {dict(labels).get("version") for _, labels in found}


def test_calls_in_flight_are_counted_while_they_are(
    get: Get, channel: grpc.Channel, serving: Any
) -> None:
    serving.gate.clear()
    request = inference_pb2.PredictRequest(model="tiny", inputs=[{"text": "good"}])
    call = InferenceStub(channel).Predict.future(request)
    assert serving.entered.acquire(timeout=10)
    assert samples(get)["tensorseek_in_flight", frozenset()] == 1
    serving.gate.set()
    call.result()
