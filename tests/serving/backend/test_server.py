"""Law: versions come and go, the process too, and no request is lost over it."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from bundle.repository import ModelRepository
from serving.backend.config import BackendConfig
from serving.backend.model_config import Tls
from serving.backend.server import Backend
from serving.errors import ConfigError

ROOT = Path(__file__).parents[3]
WAIT_S = 30.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LONG = 1500  # rounds of the probe's `slow`: about a second of work

MakeConfig = Callable[..., BackendConfig]
Publish = Callable[..., Any]
Request = Callable[..., Any]
Connect = Callable[[str], Any]
Eventually = Callable[[Callable[[], bool]], None]


def floats(*values: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.asarray(values, np.float32)


def states(stubs: Any, name: str) -> dict[int, tuple[str, str]]:
    """State and error message of each version of a model."""
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    state = get_model_status_pb2.ModelVersionStatus.State.Name
    answer = stubs.model.GetModelStatus(request, WAIT_S)
    return {
        status.version: (state(status.state), status.status.error_message)
        for status in answer.model_version_status
    }


def health(stubs: Any, name: str) -> int:
    status: int = stubs.health.Check(health_pb2.HealthCheckRequest(service=name)).status
    return status


@pytest.fixture
def running(connect: Connect) -> Iterator[Callable[[BackendConfig], tuple[Backend, Any]]]:
    """Starts a backend and connects to it; both end with the test."""
    with contextlib.ExitStack() as stack:

        def run(config: BackendConfig) -> tuple[Backend, Any]:
            backend = stack.enter_context(Backend(config))
            stubs = connect(backend.address)
            stack.enter_context(stubs.channel)
            return backend, stubs

        yield run


class Load:
    """Callers that ask without a pause, and what they got: version → answers, or errors."""

    def __init__(self, ask: Callable[[], tuple[int, Any]], expected: dict[int, Any]) -> None:
        self.answers: dict[int, int] = dict.fromkeys(expected, 0)
        self.faults: list[str] = []
        self._ask, self._expected = ask, expected
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                version, logits = self._ask()
            except grpc.RpcError as error:
                self.faults.append(str(error))
                continue
            if not np.allclose(logits, self._expected[version], rtol=1e-4):
                self.faults.append(f"version {version} answered {logits}")
            self.answers[version] += 1


def test_a_hot_swap_under_load_fails_no_request_and_gives_no_wrong_answer(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_tiny: Publish,
    predict_request: Request,
    tokenizer_json: bytes,
    tiny_spec: TextPreprocess,
    tiny_answer: Callable[..., Any],
    eventually: Eventually,
) -> None:
    config = make_config()
    publish_tiny(config.models, seed=1)
    _, stubs = running(config)
    inputs = TextPreprocessor(tokenizer_json, tiny_spec)(["a very good film"])

    def ask() -> tuple[int, Any]:
        request = predict_request("tiny", **inputs)
        response = stubs.prediction.Predict(request, WAIT_S)
        logits = np.frombuffer(response.outputs["logits"].tensor_content, np.float32)
        return response.model_spec.version.value, logits

    expected = {version: tiny_answer("a very good film", version) for version in (1, 2, 3)}
    with Load(ask, expected) as load:
        for version in (1, 2, 3):
            if version > 1:
                publish_tiny(config.models, seed=version)
            eventually(lambda version=version: load.answers[version] > 50)  # type: ignore[misc]
        eventually(
            lambda: states(stubs, "tiny") == {3: ("AVAILABLE", ""), 2: ("END", ""), 1: ("END", "")}
        )
    assert load.faults == []


def test_a_corrupt_new_version_leaves_the_old_one_serving_and_says_why(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_probe: Publish,
    publish_tiny: Publish,
    predict_request: Request,
    eventually: Eventually,
) -> None:
    def cut(path: Path) -> None:
        (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"half")

    config = make_config()
    elsewhere = config.models.parent / "elsewhere"
    publish_probe(config.models, 1)
    publish_tiny(config.models)
    publish_tiny(elsewhere)
    bundle = publish_tiny(elsewhere).path
    cut(bundle)
    _, stubs = running(config)
    publish_probe(config.models, 2, spoil=cut)
    bundle.rename(config.models / "tiny" / "2")
    for name, reason in (("probe", "Checksum does not match"), ("tiny", "corrupted")):
        eventually(lambda name=name: states(stubs, name).get(2, "")[:1] == ("END",))  # type: ignore[misc]
        assert states(stubs, name)[1] == ("AVAILABLE", "")
        assert reason in states(stubs, name)[2][1]
        assert health(stubs, name) == SERVING
    response = stubs.prediction.Predict(predict_request(x=floats([1])), WAIT_S)
    assert response.model_spec.version.value == 1


def test_a_pin_switches_back_and_an_unpin_forward(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_tiny: Publish,
    predict_request: Request,
    eventually: Eventually,
) -> None:
    config = make_config()
    repository = ModelRepository(config.models)
    for seed in (1, 2):
        publish_tiny(config.models, seed=seed)
    _, stubs = running(config)

    def served() -> int:
        ids = np.ones((1, 8), np.int32)
        request = predict_request("tiny", input_ids=ids, attention_mask=ids)
        version: int = stubs.prediction.Predict(request, WAIT_S).model_spec.version.value
        return version

    assert served() == 2
    assert repository.rollback("tiny") == 1
    eventually(lambda: served() == 1)
    repository.unpin("tiny")
    eventually(lambda: served() == 2)


def test_health_answers_for_the_whole_and_for_each_model(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_probe: Publish,
    eventually: Eventually,
) -> None:
    config = make_config()
    _, stubs = running(config)
    assert health(stubs, "") == SERVING, "ready to load, though there is nothing yet"
    with pytest.raises(grpc.RpcError) as caught:
        health(stubs, "probe")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    publish_probe(config.models, 1)
    eventually(lambda: health_or_none(stubs, "probe") == SERVING)
    (config.models / "probe").rename(config.models / ".removed")
    eventually(lambda: health(stubs, "probe") == NOT_SERVING)


def health_or_none(stubs: Any, name: str) -> int | None:
    with contextlib.suppress(grpc.RpcError):
        return health(stubs, name)
    return None


def test_a_watcher_hears_each_change_and_does_not_hold_up_the_end(
    make_config: MakeConfig, connect: Connect, publish_probe: Publish
) -> None:
    config = make_config(drain_s=3600.0)
    heard: queue.Queue[int] = queue.Queue()

    def listen(stubs: Any) -> None:
        with contextlib.suppress(grpc.RpcError):
            for response in stubs.health.Watch(health_pb2.HealthCheckRequest(service="probe")):
                heard.put(response.status)

    with Backend(config) as backend:
        stubs = connect(backend.address)
        listener = threading.Thread(target=listen, args=(stubs,))
        listener.start()
        assert heard.get(timeout=WAIT_S) == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        publish_probe(config.models, 1)
        assert heard.get(timeout=WAIT_S) == SERVING
    assert heard.get(timeout=WAIT_S) == NOT_SERVING
    listener.join(WAIT_S)
    assert not listener.is_alive()
    stubs.channel.close()


def test_a_port_that_is_taken_is_named(make_config: MakeConfig, backend: Backend) -> None:
    second = Backend(make_config(port=backend.port))
    with pytest.raises(ConfigError, match=f"port: {backend.port} on 127.0.0.1 can't be had"):
        second.start()


def test_a_message_over_the_limit_is_refused(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_probe: Publish,
    predict_request: Request,
) -> None:
    config = make_config(max_message_bytes=4096)
    publish_probe(config.models, 1)
    _, stubs = running(config)
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Predict(predict_request(x=np.ones((1, 2000), np.float32)), WAIT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_more_calls_than_may_wait_are_refused_and_the_rest_are_answered(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_probe: Publish,
    predict_request: Request,
) -> None:
    config = make_config(grpc_threads=1, max_queue=1)
    publish_probe(config.models, 1)
    _, stubs = running(config)
    request = predict_request(signature="slow", x=floats([1]), turns=np.array([LONG], np.int32))
    calls = [stubs.prediction.Predict.future(request, WAIT_S) for _ in range(5)]
    codes = [call.code() for call in calls]
    assert codes.count(grpc.StatusCode.OK) == 2
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 3


def test_a_call_whose_caller_gave_up_while_it_waited_is_not_computed(
    make_config: MakeConfig,
    running: Callable[..., tuple[Backend, Any]],
    publish_probe: Publish,
    predict_request: Request,
) -> None:
    config = make_config(grpc_threads=1)
    publish_probe(config.models, 1)
    _, stubs = running(config)
    runs = predict_request(x=floats([1]))
    assert stubs.prediction.Predict(runs, WAIT_S).outputs["runs"].tensor_content[0] == 1
    turns = np.array([LONG], np.int32)
    slow = stubs.prediction.Predict.future(
        predict_request(signature="slow", x=floats([1]), turns=turns), WAIT_S
    )
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Predict(runs, 0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert slow.result(WAIT_S)
    assert stubs.prediction.Predict(runs, WAIT_S).outputs["runs"].tensor_content[0] == 2


def test_a_drain_takes_no_longer_than_it_may(
    make_config: MakeConfig, connect: Connect, publish_probe: Publish, predict_request: Request
) -> None:
    config = make_config()
    publish_probe(config.models, 1)
    with Backend(config) as backend:
        stubs = connect(backend.address)
        call = in_flight(stubs, predict_request)
        begin_s = time.monotonic()
        backend.stop(drain_s=0.05)
        assert not call.cancelled()
        assert call.exception(WAIT_S).code() is not grpc.StatusCode.OK
        assert time.monotonic() - begin_s < 1.0
    stubs.channel.close()


def test_a_unix_socket_takes_calls_beside_or_instead_of_a_port(
    make_config: MakeConfig,
    connect: Connect,
    publish_probe: Publish,
    predict_request: Request,
    tmp_path: Path,
) -> None:
    config = make_config(port=None, socket=tmp_path / "socket")
    publish_probe(config.models, 1)
    with Backend(config):
        stubs = connect(f"unix:{tmp_path}/socket")
        with stubs.channel:
            answer = stubs.prediction.Predict(predict_request(x=floats([1])), WAIT_S)
            assert answer.outputs["y"].tensor_content == floats(2).tobytes()


def test_tls_proves_the_server_and_can_ask_the_caller_to(
    make_config: MakeConfig,
    publish_probe: Publish,
    predict_request: Request,
    self_signed: Callable[[], tuple[str, str]],
) -> None:
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    key, certificate = self_signed()
    tls = Tls(key=key, certificate=certificate, ca=certificate, verify_clients=True)
    config = make_config(tls=tls)
    publish_probe(config.models, 1)
    parts = (certificate.encode(), key.encode(), certificate.encode())
    with Backend(config) as backend:
        for credentials, passes in (
            (grpc.ssl_channel_credentials(*parts), True),
            (grpc.ssl_channel_credentials(parts[0]), False),
        ):
            with grpc.secure_channel(f"localhost:{backend.port}", credentials) as channel:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                call = stub.Predict.future(predict_request(x=floats([1])), WAIT_S)
                assert (call.exception(WAIT_S) is None) is passes


def test_a_key_that_is_none_stops_the_start(make_config: MakeConfig) -> None:
    backend = Backend(make_config(tls=Tls(key="-----BEGIN", certificate="-----BEGIN")))
    with pytest.raises(ConfigError, match=r"can't be had.*TLS"):
        backend.start()


def in_flight(stubs: Any, predict_request: Request) -> Any:
    """A call that runs for a second, and has reached the server.

    Calls on one connection arrive in order, so the answer to a later one is the proof.
    """
    turns = np.array([LONG], np.int32)
    call = stubs.prediction.Predict.future(
        predict_request(signature="slow", x=floats([1]), turns=turns), WAIT_S
    )
    stubs.prediction.Predict(predict_request(x=floats([1])), WAIT_S)
    assert not call.done()
    return call


@contextlib.contextmanager
def child(*command: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """A Python process, and the events it logs."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        yield process, (json.loads(line) for line in process.stderr if line.startswith("{"))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_sigterm_lets_the_calls_in_flight_finish_and_ends_with_exit_code_0(
    tmp_path: Path, connect: Connect, publish_probe: Publish, predict_request: Request
) -> None:
    """Also that the program listens once its model is loaded, as TensorFlow Serving does."""
    publish_probe(tmp_path, 1)
    port = free_port()
    flags = ("--model_name=probe", f"--model_base_path={tmp_path}/probe", f"--port={port}")
    with child("-m", "tensorseek.model_server", *flags) as (process, events):
        until = itertools.takewhile(lambda event: event["event"] != "backend listens", events)
        assert [event["event"] for event in until][-1] == "model serves"
        stubs = connect(f"127.0.0.1:{port}")
        with stubs.channel:
            assert health(stubs, "probe") == SERVING
            call = in_flight(stubs, predict_request)
            process.send_signal(signal.SIGTERM)
            assert list(call.result(WAIT_S).outputs["y"].float_val) == [2.0]
        assert [event["event"] for event in events] == ["backend drains", "backend stopped"]
        assert process.wait(WAIT_S) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_sigint_while_a_model_loads_ends_with_exit_code_0(
    tmp_path: Path, publish_probe: Publish
) -> None:
    publish_probe(tmp_path, 1)
    code = (
        "from pathlib import Path; from serving import logs; from serving.backend import server; "
        "from serving.backend.config import BackendConfig; logs.configure(); "
        f"server.run(BackendConfig(models=Path({str(tmp_path)!r}), port=0))"
    )
    with child("-c", code) as (process, events):
        assert any(event["event"] == "backend listens" for event in events)
        process.send_signal(signal.SIGINT)
        assert [event["event"] for event in events][-1] == "backend stopped"
        assert process.wait(WAIT_S) == 0
