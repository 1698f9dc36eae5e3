"""What merging calls is worth in the embedded backend: the same server with it and without.

command   make bench-backend-batching
machine   2 cores, no GPU; callers and both servers share them
date      2026-11-28
result    weights_ratio 3.41 (884 calls a second), arithmetic_ratio 1.60 (575); p99 with and without
          53 and 253 ms, 92 and 192 ms

Rounds of the two servers alternate, so that a drift of the machine meets both alike.

    weights_ratio       calls a second with batching over those without, 32 at once; a model of 12
                        layers of 1024 units, which reads 50 MB of weights for every run
    arithmetic_ratio    the same for 6 feed-forward blocks of MiniLM's size over 16 tokens, which
                        have more to compute for each row
    *_p99_ms            99th percentile of a call's time, with and without
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from protos import tfs_pb2
from serving import tensors
from tensorseek import stack

_IN_FLIGHT = 32
_CALLS = 320  # a round
_ROUNDS = 10
_METHOD = "/tensorflow.serving.PredictionService/Predict"
_SHAPES = {"weights": (1, 1, 1024), "arithmetic": (1, 16, 384)}


def main() -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        root = Path(folder)
        _save(root / "weights" / "1", [1024] * 13)
        _save(root / "arithmetic" / "1", [384, *[1536, 384] * 6])
        config = root / "models.config"
        config.write_text(_config(root))
        calls = {
            name: running.enter_context(_server(config, *flags))
            for name, flags in {"with": ("--enable_batching",), "without": ()}.items()
        }
        figures: dict[str, float] = {}
        for model in _SHAPES:
            figures |= _compare(model, calls)
    print(json.dumps({"benchmark": "backend_batching", **figures}))


def _save(path: Path, widths: list[int]) -> None:
    class Layers(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = itertools.pairwise(widths)
            self.weights = [tf.Variable(tf.random.normal(pair) / pair[0] ** 0.5) for pair in pairs]

        @tf.function(input_signature=[tf.TensorSpec([None, None, widths[0]], name="x")])
        def serve(self, x: Any) -> Any:
            for weight in self.weights:
                x = tf.nn.relu(tf.matmul(x, weight))
            return {"y": tf.reduce_mean(x, 1)}

    layers = Layers()
    tf.saved_model.save(layers, str(path), {"serving_default": layers.serve})


def _config(root: Path) -> str:
    models = "".join(
        f'config {{ name: "{name}" base_path: "{root / name}" model_platform: "tensorflow" }} '
        for name in _SHAPES
    )
    return f"model_config_list {{ {models}}}"


@contextmanager
def _server(config: Path, *flags: str) -> Iterator[Any]:
    """A server in a process of its own; gives its Predict, from bytes to bytes."""
    port = stack.free_ports().backend
    command = ["-m", "tensorseek.model_server", f"--model_config_file={config}", f"--port={port}"]
    process = subprocess.Popen([sys.executable, *command, *flags], stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"{stack.HOST}:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            yield channel.unary_unary(_METHOD, None, None)
    finally:
        process.terminate()
        process.wait()


def _compare(model: str, calls: dict[str, Any]) -> dict[str, float]:
    request = tfs_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(tensors.encode_tfs(np.ones(_SHAPES[model], np.float32)))
    data = request.SerializeToString()
    total_s = dict.fromkeys(calls, 0.0)
    times_s: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(_ROUNDS + 1):
        for name, call in calls.items():
            begin_s = time.perf_counter()
            with ThreadPoolExecutor(_IN_FLIGHT) as pool:
                spent_s = list(pool.map(lambda _, call=call: _timed_s(call, data), range(_CALLS)))
            if number:  # the first round warms up
                total_s[name] += time.perf_counter() - begin_s
                times_s[name] += spent_s
    p99 = {name: sorted(each)[int(0.99 * len(each))] for name, each in times_s.items()}
    return {
        f"{model}_ratio": round(total_s["without"] / total_s["with"], 2),
        f"{model}_calls_per_s": round(_ROUNDS * _CALLS / total_s["with"]),
        f"{model}_with_p99_ms": round(1e3 * p99["with"], 1),
        f"{model}_without_p99_ms": round(1e3 * p99["without"], 1),
    }


def _timed_s(call: Any, data: bytes) -> float:
    begin_s = time.perf_counter()
    call(data, timeout=30)
    return time.perf_counter() - begin_s


if __name__ == "__main__":
    main()
