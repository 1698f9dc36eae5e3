"""Real SavedModels that show what was done with them, and real backends on free ports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from serving.backend.config import BackendConfig
from serving.backend.manager import Pace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

WAIT_S = 30.0

PublishProbe = Callable[..., Path]
MakeConfig = Callable[..., BackendConfig]


class Stubs(NamedTuple):
    """TensorFlow Serving's own generated clients, on one channel."""

    channel: grpc.Channel
    prediction: Any
    model: Any
    health: Any


@pytest.fixture(scope="session")
def probe_saved_model(  # noqa: C901  # seven functions of two lines
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A SavedModel that tells how it was called.

    serving_default  x [B, W] → y = 2x, rows [B] (how many rows ran together),
                     runs [B] (how often the model ran)
    slow             x [B, W], turns [B] → y = 2x after max(turns) rounds of work
    total            x [B, W] → a scalar, so it can't be merged
    upper            text [B] → text [B]
    pick             ids [B] → table[ids], of 4 rows
    other_rows       x [B] → y [2B], which only says that it is per row
    faulty           x [B] → fails with a path of the server in its message
    """
    import tensorflow as tf

    def spec(*shape: int | None, dtype: Any = tf.float32, name: str = "x") -> Any:
        return tf.TensorSpec(shape, dtype, name=name)

    class Probe(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.runs = tf.Variable(0)
            self.table = tf.Variable([1.0, 2.0, 3.0, 4.0])

        @tf.function(input_signature=[spec(None, None)])
        def double(self, x: Any) -> Any:
            rows = tf.shape(x)[:1]
            runs = self.runs.assign_add(1)
            return {"y": 2 * x, "rows": tf.fill(rows, rows[0]), "runs": tf.fill(rows, runs)}

        @tf.function(input_signature=[spec(None, None), spec(None, dtype=tf.int32, name="turns")])
        def slow(self, x: Any, turns: Any) -> Any:
            work = tf.eye(256)
            for _ in tf.range(tf.reduce_max(turns)):
                work = tf.linalg.matmul(work, tf.eye(256))
            return {"y": 2 * x * work[0, 0]}

        @tf.function(input_signature=[spec(None, None)])
        def total(self, x: Any) -> Any:
            return {"total": tf.reduce_sum(x)}

        @tf.function(input_signature=[spec(None, dtype=tf.string, name="text")])
        def upper(self, text: Any) -> Any:
            return {"text": tf.strings.upper(text)}

        @tf.function(input_signature=[spec(None, dtype=tf.int32, name="ids")])
        def pick(self, ids: Any) -> Any:
            return {"y": tf.gather(self.table, ids)}

        @tf.function(input_signature=[spec(None)])
        def other_rows(self, x: Any) -> Any:
            return {"y": tf.concat([x, x], 0)}

        @tf.function(input_signature=[spec(None)])
        def faulty(self, x: Any) -> Any:
            secret = tf.strings.length(tf.io.read_file("/server/secret"))
            return {"y": x + tf.cast(secret, tf.float32)}

    probe = Probe()
    names = ("slow", "total", "upper", "pick", "other_rows", "faulty")
    signatures = {name: getattr(probe, name) for name in names}
    path = tmp_path_factory.mktemp("probe") / "saved_model"
    tf.saved_model.save(probe, str(path), {"serving_default": probe.double, **signatures})
    return path


@pytest.fixture(scope="session")
def publish_probe(probe_saved_model: Path) -> PublishProbe:
    """Puts the probe into a repository as TensorFlow Serving's users do: no manifest."""

    def publish(
        root: Path, version: int, name: str = "probe", spoil: Callable[[Path], None] | None = None
    ) -> Path:
        hidden = root / f".{name}-{version}"
        shutil.copytree(probe_saved_model, hidden)
        if spoil:
            spoil(hidden)
        target = root / name / str(version)
        target.parent.mkdir(exist_ok=True)
        return hidden.rename(target)

    return publish


@pytest.fixture(scope="session")
def write_warmup() -> Callable[[Path, list[Any]], None]:
    """Writes PredictRequests as the warm-up file of a SavedModel folder."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    def write(saved_model: Path, requests: list[Any]) -> None:
        path = saved_model / "assets.extra" / "tf_serving_warmup_requests"
        path.parent.mkdir(exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for request in requests:
                log = prediction_log_pb2.PredictLog(request=request)
                record = prediction_log_pb2.PredictionLog(predict_log=log)
                writer.write(record.SerializeToString())

    return write


@pytest.fixture(scope="session")
def predict_request() -> Callable[..., Any]:
    """A PredictRequest of the probe, made as TensorFlow Serving's guide does."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    def make(
        model: str = "probe", signature: str = "", version: int | None = None, **inputs: Any
    ) -> Any:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    return make


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """Settings of a backend on a free port over an own, empty repository, that looks often."""

    def make(**changes: Any) -> BackendConfig:
        root = tmp_path / "repository"
        root.mkdir(exist_ok=True)
        pace = Pace(poll_s=0.02, grace_s=0.05)
        settings = {"models": root, "port": 0, "pace": pace, "drain_s": 5.0}
        return BackendConfig(**settings | changes)

    return make


@pytest.fixture(scope="session")
def backend(
    tmp_path_factory: pytest.TempPathFactory, publish_probe: PublishProbe, publish_tiny: Any
) -> Iterator[Any]:
    """A backend that serves the probe and the tiny bundle; shared, so nobody changes it."""
    from serving.backend.server import Backend

    root = tmp_path_factory.mktemp("shared")
    publish_probe(root, 1)
    publish_tiny(root)
    with Backend(BackendConfig(models=root, port=0, drain_s=5.0)) as backend:
        yield backend


@pytest.fixture(scope="session")
def connect() -> Callable[[str], Stubs]:
    """Makes the clients for an address; the caller closes the channel."""
    from grpc_health.v1 import health_pb2_grpc
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    def connect(address: str) -> Stubs:
        channel = grpc.insecure_channel(address)
        return Stubs(
            channel,
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            health_pb2_grpc.HealthStub(channel),
        )

    return connect


@pytest.fixture(scope="session")
def stubs(backend: Any, connect: Callable[[str], Stubs]) -> Iterator[Stubs]:
    """Clients of the shared backend."""
    stubs = connect(backend.address)
    with stubs.channel:
        yield stubs
