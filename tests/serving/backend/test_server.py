"""Law: versions come and go, the process too, and no request is lost over it."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
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
    for name, reason in (("probe", "Read less bytes than requested"), ("tiny", "corrupted")):
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
def child(models: Path) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
    """A process that runs a backend, and the events it logs."""
    code = (
        "from pathlib import Path; from serving import logs; from serving.backend import server; "
        "from serving.backend.config import BackendConfig; logs.configure(); "
        f"server.run(BackendConfig(models=Path({str(models)!r}), port=0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True
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
    publish_probe(tmp_path, 1)
    with child(tmp_path) as (process, events):
        listening = next(event for event in events if event["event"] == "backend listens")
        assert any(event["event"] == "model serves" for event in events)
        stubs = connect(listening["address"])
        with stubs.channel:
            call = in_flight(stubs, predict_request)
            process.send_signal(signal.SIGTERM)
            assert call.result(WAIT_S).outputs["y"].tensor_content == floats(2).tobytes()
        assert [event["event"] for event in events] == ["backend drains", "backend stopped"]
        assert process.wait(WAIT_S) == 0


def test_sigint_while_a_model_loads_ends_with_exit_code_0(
    tmp_path: Path, publish_probe: Publish
) -> None:
    publish_probe(tmp_path, 1)
    with child(tmp_path) as (process, events):
        assert any(event["event"] == "backend listens" for event in events)
        process.send_signal(signal.SIGINT)
        assert [event["event"] for event in events][-1] == "backend stopped"
        assert process.wait(WAIT_S) == 0
