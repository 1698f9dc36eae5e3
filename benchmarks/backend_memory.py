"""Whether the embedded backend gives back the memory of the models that it unloads.

command   make bench-backend-memory
machine   2 cores, no GPU
date      2026-11-25
result    start_mb 610, loaded_mb 732, end_mb 627, end_ratio 1.029

A server of no model is told to load one of 100 MB, answers it, and is told to unload it, 20 times.

    start_mb     resident before the first time
    loaded_mb    the most while the model was loaded
    end_mb       resident after the last unload
    end_ratio    end over start: at most 1.1
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tensorseek import stack

_CYCLES = 20
_WIDTH, _LAYERS = 1024, 25
_EMPTY = "model_config_list { }"
_WAIT_S = 60


def main() -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _save(root / "heavy" / "1")
        (root / "models.config").write_text(_EMPTY)
        full = (
            f'model_config_list {{ config {{ name: "heavy" base_path: "{root}/heavy" '
            'model_platform: "tensorflow" } }'
        )
        print(json.dumps({"benchmark": "backend_memory", **_measure(root, full)}))


def _save(path: Path) -> None:
    class Heavy(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = [tf.Variable(tf.eye(_WIDTH)) for _ in range(_LAYERS)]

        @tf.function(input_signature=[tf.TensorSpec([None, _WIDTH], name="x")])
        def serve(self, x: Any) -> Any:
            for weight in self.weights:
                x = tf.matmul(x, weight)
            return {"y": x}

    heavy = Heavy()
    tf.saved_model.save(heavy, str(path), {"serving_default": heavy.serve})


def _measure(root: Path, full: str) -> dict[str, float]:
    port = stack.free_ports().backend
    flags = [f"--model_config_file={root}/models.config", f"--port={port}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorseek.model_server", *flags], stderr=subprocess.DEVNULL
    )
    try:
        with grpc.insecure_channel(f"{stack.HOST}:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=_WAIT_S)
            start_mb, loaded_mb = _rss_mb(process.pid), 0.0
            for _ in range(_CYCLES):
                _reload(channel, full)
                _ask(channel)
                loaded_mb = max(loaded_mb, _rss_mb(process.pid))
                _reload(channel, _EMPTY)
            end_mb = _rss_mb(process.pid)
    finally:
        process.terminate()
        process.wait()
    return {
        "start_mb": round(start_mb),
        "loaded_mb": round(loaded_mb),
        "end_mb": round(end_mb),
        "end_ratio": round(end_mb / start_mb, 3),
    }


def _reload(channel: grpc.Channel, text: str) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    stub.HandleReloadConfigRequest(request, _WAIT_S)


def _ask(channel: grpc.Channel) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "heavy"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones((8, _WIDTH), np.float32)))
    prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, _WAIT_S)


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


if __name__ == "__main__":
    main()
