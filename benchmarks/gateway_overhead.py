"""What the gateway adds to a call: direct to the backend against through the gateway.

command   make bench-gateway-overhead
machine   2 cores, no GPU; client, gateway and backend share them
date      2026-11-28, idle machine
result    of two runs: added_p50_ms 0.598 and 0.591, gateway_cpu_ms_per_request 0.606 both times,
          text_added_p50_ms 1.130 and 1.158, text_cpu_ms_per_request 0.658 and 0.642, ready_s 0.66
          and 0.56, rss_mb 113; direct_p50_ms 0.73. Passing a call through costs a proxy of nothing
          but grpc.aio 0.49 to 0.55 of these milliseconds. Kept on one core, event loop and gRPC's
          threads take a tenth to a fifth less of the processor, and starve when others need it

Rounds of direct, passed-through and text calls alternate, so that a drift of the machine meets all
three alike. `direct` and `passed` send the same bytes; `text` also tokenizes, in the gateway.

    added_p50_ms                 median of passed minus median of direct, 1 in flight
    gateway_cpu_ms_per_request   CPU of the gateway's process a passed-through call, 1 in flight
    text_added_p50_ms            median of text minus median of direct, 1 in flight
    text_cpu_ms_per_request      CPU of the gateway's process a text call, 32 in flight
    ready_s                      from the start of the process to its first 200 on /readyz
    rss_mb                       resident memory of the gateway after all that
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import uvloop

from benchmarks import trivial_model
from bundle.preprocess import TextPreprocessor
from protos import inference_pb2, tfs_pb2
from serving import tensors
from serving.client import Client
from tensorseek import stack
from tensorseek.process import Child
from tensorseek.stack import Ports

_ROUNDS = 8
_CALLS = 400  # a round and a kind
_SETTLE = 20  # more, before those that count: the gateway's caches are cold from the kind before
_IN_FLIGHT = 32
_IN_FLIGHT_CALLS = 6400
_METHOD = "/tensorflow.serving.PredictionService/Predict"
_TEXT_METHOD = "/tensorseek.v1.Inference/Predict"

Call = Callable[[], object]


def main() -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        models, logs = Path(folder, "models"), Path(folder, "logs")
        preprocessor = trivial_model.publish(models)
        ports = stack.free_ports()
        backend = stack.backend(models, ports, logs)
        gateway = stack.gateway(models, ports, logs, needs_model=True)
        with stack.running([backend]):
            stack.wait_ready([backend])
            start = time.perf_counter()
            with stack.running([gateway]):
                gateway.wait_ready(timeout_s=30)
                ready_s = time.perf_counter() - start
                figures = _measure(preprocessor, gateway, ports)
    print(json.dumps({"benchmark": "gateway_overhead", "ready_s": round(ready_s, 3), **figures}))


def _measure(preprocessor: TextPreprocessor, gateway: Child, ports: Ports) -> dict[str, float]:
    request = _request(preprocessor)
    direct_channel = grpc.insecure_channel(f"{stack.HOST}:{ports.backend}")
    passed_channel = grpc.insecure_channel(f"{stack.HOST}:{ports.gateway}")
    with direct_channel, passed_channel, Client(f"{stack.HOST}:{ports.gateway}") as client:
        direct = direct_channel.unary_unary(_METHOD, None, None)
        passed = passed_channel.unary_unary(_METHOD, None, None)
        calls: dict[str, Call] = {
            "direct": lambda: direct(request, timeout=10),
            "passed": lambda: passed(request, timeout=10),
            "text": lambda: client.predict(trivial_model.NAME, [trivial_model.TEXT]),
        }
        milliseconds: dict[str, list[float]] = {kind: [] for kind in calls}
        cpu_s = dict.fromkeys(calls, 0.0)
        for number in range(_ROUNDS + 1):
            for kind, call in calls.items():
                for _ in range(_SETTLE):
                    call()
                before = _cpu_s(gateway)
                times = [_timed_ms(call) for _ in range(_CALLS)]
                if number:  # the first round warms up
                    milliseconds[kind] += times
                    cpu_s[kind] += _cpu_s(gateway) - before
        loaded = uvloop.run(_in_flight(gateway, ports))
    p50 = {kind: statistics.median(times) for kind, times in milliseconds.items()}
    counted = _ROUNDS * _CALLS
    figures = {
        "added_p50_ms": p50["passed"] - p50["direct"],
        "gateway_cpu_ms_per_request": 1e3 * cpu_s["passed"] / counted,
        "text_added_p50_ms": p50["text"] - p50["direct"],
        "text_cpu_ms_per_request": loaded,
        **{f"{kind}_p50_ms": value for kind, value in p50.items()},
        "rss_mb": _rss_mb(gateway),
    }
    return {name: round(value, 3) for name, value in figures.items()}


def _request(preprocessor: TextPreprocessor) -> bytes:
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = trivial_model.NAME
    request.model_spec.signature_name = "serving_default"
    for name, values in preprocessor([trivial_model.TEXT]).items():
        request.inputs[name].CopyFrom(tensors.encode_tfs(values))
    return request.SerializeToString()


async def _in_flight(gateway: Child, ports: Ports) -> float:
    """CPU milliseconds of the gateway a text call, with many in flight.

    The requests are encoded before, on one event loop: threads that take turns at the interpreter
    would have but a few of them in the gateway at once.
    """
    request = inference_pb2.PredictRequest(
        model=trivial_model.NAME, inputs=[{"text": trivial_model.TEXT}]
    ).SerializeToString()
    async with grpc.aio.insecure_channel(f"{stack.HOST}:{ports.gateway}") as channel:
        predict = channel.unary_unary(_TEXT_METHOD, None, inference_pb2.PredictResponse.FromString)

        async def caller() -> None:
            for _ in range(_IN_FLIGHT_CALLS // _IN_FLIGHT):
                response = await predict(request, timeout=10)
                assert response.results[0].labels.labels

        before = _cpu_s(gateway)
        await asyncio.gather(*(caller() for _ in range(_IN_FLIGHT)))
        return 1e3 * (_cpu_s(gateway) - before) / _IN_FLIGHT_CALLS


def _timed_ms(call: Call) -> float:
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def _cpu_s(child: Child) -> float:
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(child: Child) -> float:
    for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {child.pid} has no VmRSS")


if __name__ == "__main__":
    main()
