"""Laws of several workers: one door, one sum of what they count, and none is missed for long."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos import inference_pb2
from protos.inference_pb2_grpc import InferenceStub

PROGRAM = """
import sys
from pathlib import Path
from serving import logs
from serving.gateway.config import GatewayConfig
from serving.gateway.workers import run
logs.configure()
settings = dict(port=0, http_port=0, workers=2, poll_s=0.2, drain_s=5.0)
config = GatewayConfig(models=Path(sys.argv[1]), backend=sys.argv[2], **settings)
run(config, prepare=logs.configure)
"""
REQUEST = inference_pb2.PredictRequest(model="tiny", inputs=[inference_pb2.Input(text="good")])


class Workers:
    """A supervisor with two workers."""

    def __init__(self, models: Path, backend: str) -> None:
        command = [sys.executable, "-c", PROGRAM, str(models), backend]
        self.process = subprocess.Popen(
            ["sh", "-c", 'ulimit -S -n 1024; exec "$@"', "sh", *command],
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2):  # both say so
            line = self.wait_for("gateway listens")
        self.port, self.http_port = line["port"], line["http_port"]

    def wait_for(self, event: str) -> dict[str, Any]:
        assert self.process.stderr
        for text in self.process.stderr:
            if text.startswith("{") and f'"event":"{event}"' in text.replace(": ", ":"):
                line: dict[str, Any] = json.loads(text)
                return line
        raise AssertionError(f"never said {event!r}")

    def ask(self) -> None:
        """Over a connection of its own, which any of them may get."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            InferenceStub(channel).Predict(REQUEST, timeout=20)

    def metric(self, name: str) -> float:
        url = f"http://127.0.0.1:{self.http_port}/metrics"
        text = urllib.request.urlopen(url, timeout=20).read().decode()
        families = text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == name)

    def pids(self) -> list[int]:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        commands = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [child for child, command in commands.items() if b"spawn_main" in command]


@pytest.fixture
def workers(models: Path, serving: Any) -> Iterator[Workers]:
    found = Workers(models, serving.address)
    yield found
    found.process.kill()
    found.process.communicate()


def test_they_count_together_and_the_dead_are_replaced(
    workers: Workers, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    for _ in range(30):
        workers.ask()
    for _ in range(5):  # whichever is asked
        assert workers.metric("tensorseek_requests_total") == 30
        assert workers.metric("tensorseek_total_seconds_count") == 30
        assert workers.metric("tensorseek_models_available") == 1
        assert workers.metric("tensorseek_in_flight") == 0

    first, second = workers.pids()
    limits = Path(f"/proc/{first}/limits").read_text()
    soft, hard = re.findall(r"Max open files +(\d+) +(\d+)", limits)[0]
    assert soft == hard  # each caller's connection takes one

    os.kill(first, signal.SIGKILL)
    assert workers.wait_for("a worker died")["code"] == -signal.SIGKILL
    workers.wait_for("gateway listens")
    assert second in workers.pids()
    assert len(workers.pids()) == 2
    for _ in range(10):
        workers.ask()
    eventually(lambda: workers.metric("tensorseek_requests_total") == 40)

    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(20) == 0
