"""A tiny TensorFlow Serving and a running gateway in front of it, without TensorFlow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.manifest import Manifest, TextPreprocess
from bundle.preprocess import TextPreprocessor
from bundle.repository import EXTRA, ModelRepository
from protos import tfs_pb2
from serving import tensors
from serving.gateway.config import GatewayConfig
from serving.gateway.server import Gateway

VOCABULARY = 32  # at least as many words as the tiny tokenizer has
PATIENCE_S = 20.0


def weights(version: int) -> NDArray[np.float32]:
    """Each token's say on each label, another one in each version: [VOCABULARY, 2]."""
    return np.random.default_rng(version).normal(size=(VOCABULARY, 2)).astype(np.float32)


class TinyServing:
    """Speaks TensorFlow Serving's API on a real port; logits = the sum of its tokens' weights.

    While `gate` is clear it answers no Predict. `entered` counts those that have begun,
    `abandoned` those whose caller had gone before they were answered.
    """

    def __init__(self) -> None:
        self.served: dict[str, set[int]] = {"tiny": {1}}
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.abandoned = threading.Semaphore(0)
        self.shapes: list[tuple[int, ...]] = []
        self.left_s: list[float] = []
        self.metadata: dict[str, str] = {}
        self.fault: tuple[grpc.StatusCode, str] | None = None
        self.outputs: dict[str, Any] | None = None  # instead of the right ones
        self.swap: Callable[[], None] | None = None  # done once, when a Predict comes in
        self.port = 0

    def start(self) -> None:
        """Listens, again on the same port after a `stop`."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        pb = tfs_pb2
        services = {
            "PredictionService": ("Predict", self._predict, pb.PredictRequest),
            "ModelService": ("GetModelStatus", self._status, pb.GetModelStatusRequest),
        }
        for service, (method, answer, request) in services.items():
            handler = grpc.unary_unary_rpc_method_handler(
                answer, request.FromString, lambda response: response.SerializeToString()
            )
            self._server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        f"tensorflow.serving.{service}", {method: handler}
                    ),
                )
            )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        """Breaks off every call and closes the port."""
        self._server.stop(None).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _predict(self, request: tfs_pb2.PredictRequest, context: Any) -> tfs_pb2.PredictResponse:
        self.left_s.append(context.time_remaining())
        self.metadata = dict(context.invocation_metadata())
        self.entered.release()
        if self.swap:
            self.swap, swap = None, self.swap
            swap()
        if self.fault:
            context.abort(*self.fault)
        name, version = request.model_spec.name, request.model_spec.version.value
        if version not in self.served.get(name, ()):
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {name}/{version}")
        while not self.gate.wait(0.01):
            if not context.is_active():
                self.abandoned.release()
                return tfs_pb2.PredictResponse()
        inputs = {key: tensors.decode_tfs(value) for key, value in request.inputs.items()}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        self.shapes.append(ids.shape)
        if ids.dtype != np.int32 or ids.ndim != 2 or ids.shape != mask.shape:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input_ids must be int32 [B, T]")
        if ((ids < 0) | (ids >= VOCABULARY)).any():
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "ids are not in [0, 32)\n\t{{node 7}}")
        logits = (weights(version)[ids] * mask[:, :, None]).sum(1)
        outputs = self.outputs or {"logits": tensors.encode_tfs(logits.astype(np.float32))}
        return tfs_pb2.PredictResponse(outputs=outputs, model_spec=request.model_spec)

    def _status(
        self, request: tfs_pb2.GetModelStatusRequest, context: Any
    ) -> tfs_pb2.GetModelStatusResponse:
        name = request.model_spec.name
        if name not in self.served:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of {name}")
        return tfs_pb2.GetModelStatusResponse(
            model_version_status=[
                tfs_pb2.ModelVersionStatus(version=version, state="AVAILABLE")
                for version in sorted(self.served[name])
            ]
        )


@pytest.fixture
def serving() -> Iterator[TinyServing]:
    """A tiny TensorFlow Serving with version 1 of the model `tiny`."""
    server = TinyServing()
    server.start()
    yield server
    server.gate.set()
    server.stop()


@pytest.fixture(scope="session")
def publish_plain(tokenizer_json: bytes, tiny_manifest: Manifest) -> Callable[..., int]:
    """Publishes a bundle that has everything the gateway reads, and returns its version."""

    def publish(root: Path, name: str = "tiny", **changes: Any) -> int:
        repository = ModelRepository(root)
        with repository.staging() as staged:
            (staged / EXTRA).mkdir()
            (staged / "saved_model.pb").write_bytes(b"no one reads this")
            (staged / EXTRA / "tokenizer.json").write_bytes(tokenizer_json)
            draft = msgspec.structs.replace(tiny_manifest, name=name, **changes)
            return repository.publish(staged, draft).manifest.version

    return publish


@pytest.fixture
def models(tmp_path: Path, publish_plain: Callable[..., int]) -> Path:
    """A model repository with version 1 of the model `tiny`."""
    publish_plain(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def make_config(models: Path, serving: TinyServing) -> Callable[..., GatewayConfig]:
    """Settings for a gateway on free ports, that looks around often."""

    def make(**changes: Any) -> GatewayConfig:
        settings = {"port": 0, "http_port": 0, "poll_s": 0.05, "drain_s": 5.0}
        return GatewayConfig(models=models, backend=serving.address, **settings | changes)

    return make


@contextlib.contextmanager
def run_in_thread(config: GatewayConfig, **options: Any) -> Iterator[Gateway]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Gateway:
        gateway = Gateway(config, **options)
        await gateway.start()
        return gateway

    try:
        gateway = asyncio.run_coroutine_threadsafe(start(), loop).result(PATIENCE_S)
        try:
            yield gateway
        finally:
            asyncio.run_coroutine_threadsafe(gateway.stop(), loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


@pytest.fixture(scope="session")
def running() -> Callable[..., contextlib.AbstractContextManager[Gateway]]:
    """Runs a gateway on an event loop of its own: `with running(config) as gateway`."""
    return run_in_thread


@pytest.fixture
def gateway(make_config: Callable[..., GatewayConfig]) -> Iterator[Gateway]:
    """A running gateway in front of `serving`."""
    with run_in_thread(make_config()) as gateway:
        yield gateway


@pytest.fixture
def channel(gateway: Gateway) -> Iterator[grpc.Channel]:
    """A connection to `gateway`."""
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield channel


@pytest.fixture(scope="session")
def expected(
    tokenizer_json: bytes, tiny_spec: TextPreprocess
) -> Callable[..., NDArray[np.float32]]:
    """The logits [2] that a version of the tiny model must give for a text."""
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)

    def answer(text: str, version: int = 1) -> NDArray[np.float32]:
        return np.asarray(weights(version)[preprocessor.encode([text])[0]].sum(0), np.float32)

    return answer


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds, and fails when it does not in time."""

    def wait(condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, "it did not come true"
            time.sleep(0.01)

    return wait
