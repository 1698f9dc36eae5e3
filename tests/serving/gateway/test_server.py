"""Laws of the process: light, without TensorFlow, clear about its ports, and it drains."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub
from serving.errors import ConfigError
from serving.gateway.server import Gateway

PROGRAM = """
import sys
sys.modules["tensorflow"] = sys.modules["transformers"] = None  # importing them would fail
from pathlib import Path
from serving import logs
from serving.gateway.config import GatewayConfig
from serving.gateway.workers import run
logs.configure()
run(GatewayConfig(models=Path(sys.argv[1]), backend=sys.argv[2], port=0, http_port=0))
"""


class Child:
    """A gateway in a process of its own, and the lines it logs."""

    def __init__(self, models: Path, backend: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(models), backend],
            stderr=subprocess.PIPE,
            text=True,
        )
        listens = self.wait_for("gateway listens")
        self.port, self.http_port = int(listens["port"]), int(listens["http_port"])

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next line about `event`."""
        assert self.process.stderr
        seen = []
        for text in self.process.stderr:
            seen.append(text)
            if not text.startswith("{"):
                continue  # gRPC's own words about a backend without a health service
            line: dict[str, Any] = json.loads(text)
            if line["event"] == event:
                return line
        raise AssertionError(f"it never said {event!r} but:\n{''.join(seen)}")

    def get(self, path: str) -> tuple[int, str]:
        """HTTP status, and the reason in the answer if there is one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read()).get("reason", "")

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10


@pytest.fixture
def child(models: Path, serving: Any) -> Iterator[Child]:
    child = Child(models, serving.address)
    yield child
    child.process.kill()
    child.process.communicate()


def request(*texts: str) -> inference_pb2.PredictRequest:
    inputs = [inference_pb2.Input(text=text) for text in texts]
    return inference_pb2.PredictRequest(model="tiny", inputs=inputs)


def test_it_needs_no_tensorflow_and_little_memory(child: Child) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{child.port}") as channel:
        for _ in range(20):
            InferenceStub(channel).Predict(request(*["good " * 50] * 100))
    assert child.resident_bytes() < 120 << 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_calls_in_flight_end_and_the_process_exits_with_0(
    child: Child, serving: Any, number: int
) -> None:
    serving.gate.clear()
    with grpc.insecure_channel(f"127.0.0.1:{child.port}") as channel:
        call = InferenceStub(channel).Predict.future(request("good"))
        assert serving.entered.acquire(timeout=10)
        os.kill(child.process.pid, number)
        child.wait_for("gateway drains")
        assert child.get("/healthz")[0] == 200
        assert child.get("/readyz") == (503, "the gateway is shutting down")
        with (
            grpc.insecure_channel(f"127.0.0.1:{child.port}") as late,
            pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
        ):
            InferenceStub(late).Predict(request("good"))
        serving.gate.set()
        assert call.result(timeout=10).model_version == 1
    assert child.process.wait(timeout=10) == 0


def test_each_call_leaves_one_line(child: Child) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{child.port}") as channel:
        InferenceStub(channel).Predict(request("good", "bad"))
        line = child.wait_for("call")
        assert line["level"] == "info"
        assert line["total_ms"] > 0
        found = {key: line[key] for key in ("method", "model", "version", "code", "inputs")}
        assert found == {
            "method": "Predict",
            "model": "tiny",
            "version": 1,
            "code": "OK",
            "inputs": 2,
        }
        with pytest.raises(grpc.RpcError):
            InferenceStub(channel).Predict(request(""))
        line = child.wait_for("call")
        assert line["code"] == "INVALID_ARGUMENT"
        assert line["error"].startswith("inputs[0].text: is empty")


def test_a_call_that_outlives_the_drain_is_broken_off(
    make_config: Callable[..., Any], running: Callable[..., Any], serving: Any
) -> None:
    with running(make_config(drain_s=0.2)) as gateway:
        channel = grpc.insecure_channel(f"127.0.0.1:{gateway.port}")
        serving.gate.clear()
        call = InferenceStub(channel).Predict.future(request("good"))
        assert serving.entered.acquire(timeout=10)
    assert isinstance(call.exception(timeout=10), grpc.RpcError)
    assert serving.abandoned.acquire(timeout=10)
    channel.close()


@pytest.mark.parametrize("field", ["port", "http_port"])
def test_a_port_that_is_taken_is_named(
    gateway: Gateway, make_config: Callable[..., Any], field: str
) -> None:
    taken = getattr(gateway, field)

    async def start() -> None:
        async with Gateway(make_config(**{field: taken})):
            pass

    with pytest.raises(ConfigError, match=f"^{field}: {taken} on 127.0.0.1 can't be had"):
        asyncio.run(start())
