"""The server that the suite asks: any that speaks TensorFlow Serving's API, or our own.

    python tests/serving/conformance/models.py /tmp/conformance
    tensorflow_model_server --port=8500 --rest_api_port=8501 \\
        --model_config_file=/tmp/conformance/models.config \\
        --monitoring_config_file=/tmp/conformance/monitoring.config \\
        --allow_version_labels_for_unavailable_models
    TFS_ADDRESS=127.0.0.1:8500 TFS_REST_ADDRESS=127.0.0.1:8501 TFS_MODELS=/tmp/conformance \\
        python -m pytest tests/serving/conformance

Without TFS_ADDRESS our own is started, with the same flags.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

WAIT_S = 30.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Ask = Callable[..., "Answer"]


class Served(NamedTuple):
    """Where the server under test is."""

    grpc: str
    rest: str
    models: Path


class Stubs(NamedTuple):
    """The published clients, on one channel."""

    prediction: Any
    model: Any


class Answer(NamedTuple):
    """What HTTP answered."""

    status: int
    body: Any  # JSON, or text where it is none


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server under test."""
    address = os.environ.get("TFS_ADDRESS")
    if address:
        rest = os.environ.get("TFS_REST_ADDRESS", f"{address.rpartition(':')[0]}:8501")
        yield Served(address, rest, Path(os.environ["TFS_MODELS"]))
        return
    from serving.backend import flags
    from serving.backend.server import Backend

    root = tmp_path_factory.mktemp("conformance")
    _models().write(root)
    port, rest_port = _free_port(), _free_port()
    arguments = [
        f"--port={port}",
        f"--rest_api_port={rest_port}",
        f"--model_config_file={root}/models.config",
        f"--monitoring_config_file={root}/monitoring.config",
        "--allow_version_labels_for_unavailable_models",
    ]
    config = flags.read(flags.parser("tensorseek-model-server", "").parse_args(arguments))
    with Backend(config):
        yield Served(f"127.0.0.1:{port}", f"127.0.0.1:{rest_port}", root)


@pytest.fixture(scope="session")
def stubs(served: Served) -> Iterator[Stubs]:
    """Clients of the server under test."""
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    with grpc.insecure_channel(served.grpc) as channel:
        yield Stubs(
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


@pytest.fixture(scope="session")
def ask(served: Served) -> Ask:
    """Asks over HTTP: `ask("GET", path)` or `ask("POST", path, body)`."""

    def ask(method: str, path: str, body: Any = None) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{served.rest}{path}", data, method=method)
        try:
            with _DIRECT.open(request, timeout=WAIT_S) as response:
                return _answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            return _answer(error.code, error.read())

    return ask


@pytest.fixture(scope="session")
def list_of_models(served: Served) -> str:
    """The text of the models.config that the server was started with."""
    text: str = _models().config(served.models)
    return text


def _answer(status: int, body: bytes) -> Answer:
    try:
        return Answer(status, json.loads(body))
    except ValueError:
        return Answer(status, body.decode())


def _models() -> Any:
    """The script beside this file; test folders are no packages."""
    path = Path(__file__).with_name("models.py")
    spec = importlib.util.spec_from_file_location("conformance_models", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
