"""Law: a list of models is served as a whole; a new one takes over, a wrong one changes nothing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from bundle import atomic
from serving.backend.config import BackendConfig
from serving.backend.manager import Pace
from serving.backend.model_config import Listed
from serving.backend.server import Backend
from serving.errors import ConfigError

WAIT_S = 30.0
Publish = Callable[..., Path]
Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def probe(tmp_path: Path, publish_probe: Publish) -> Listed:
    """Two versions of the probe, of which the newer one is listed."""
    root = tmp_path / "repository"
    root.mkdir()
    for version in (1, 2):
        publish_probe(root, version)
    return Listed(name="probe", base=root / "probe")


def config(*models: Listed, **changes: Any) -> BackendConfig:
    pace = Pace(poll_s=0.02, grace_s=0)
    return BackendConfig(models=models, port=0, pace=pace, drain_s=5.0, **changes)


def text(*models: Listed) -> str:
    configs = (
        f'config {{ name: "{model.name}" base_path: "{model.base}" model_platform: "tensorflow"'
        f" model_version_policy {{ specific {{ versions: {model.versions[0]} }} }}"
        + "".join(f' version_labels {{ key: "{k}" value: {v} }}' for k, v in model.labels.items())
        + " }"
        for model in models
    )
    return f"model_config_list {{ {' '.join(configs)} }}"


def test_the_file_is_read_again_and_a_wrong_one_is_told_once(
    probe: Listed,
    tmp_path: Path,
    connect: Callable[[str], Any],
    predict_request: Callable[..., Any],
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "models.config"
    one, two = (dataclasses.replace(probe, versions=(number,)) for number in (1, 2))

    def write(content: str) -> None:
        atomic.write_bytes(file, content.encode())

    write(text(one))
    started = config(dataclasses.replace(one, latest=None), list_file=file, list_poll_s=0.02)

    def served(label: str = "") -> int:
        request = predict_request(x=np.ones((1, 1), np.float32))
        if label:
            request.model_spec.version_label = label
        version: int = stubs.prediction.Predict(request, WAIT_S).model_spec.version.value
        return version

    def told() -> list[str]:
        return [str(record.reason) for record in caplog.records if hasattr(record, "reason")]

    with Backend(started) as backend:
        stubs = connect(backend.address)
        with stubs.channel:
            assert served() == 1
            write(text(two))
            eventually(lambda: served() == 2)
            write("model_config_list {")
            eventually(lambda: len(told()) == 1)
            assert "is no ModelServerConfig in text format" in told()[0]
            write(text(dataclasses.replace(two, labels={"stable": 1})))
            eventually(lambda: len(told()) == 2)
            assert "assign label to version 1 of model probe" in told()[1]
            assert served() == 2
            write(text(dataclasses.replace(two, labels={"stable": 2})))
            eventually(lambda: served_or_none(served) == 2)
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 2


def served_or_none(served: Callable[[str], int]) -> int | None:
    try:
        return served("stable")
    except grpc.RpcError:
        return None


def test_a_label_of_a_version_that_does_not_answer_stops_the_start(probe: Listed) -> None:
    wrong = dataclasses.replace(probe, labels={"stable": 1})
    backend = Backend(config(wrong))
    with pytest.raises(ConfigError, match="assign label to version 1 of model probe"):
        backend.start()
    backend.stop()
    with Backend(config(dataclasses.replace(probe, labels={"stable": 2}))):
        pass  # once it is loaded it may have one, from the start


def test_a_new_model_that_can_not_be_loaded_is_told_and_the_others_are_served(
    probe: Listed,
    tmp_path: Path,
    connect: Callable[[str], Any],
    predict_request: Callable[..., Any],
) -> None:
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_management_pb2

    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"no model")
    request = model_management_pb2.ReloadConfigRequest()
    one = dataclasses.replace(probe, versions=(1,))
    other = Listed(name="broken", base=broken.parent, versions=(1,))
    text_format.Parse(text(one, other), request.config)
    with Backend(config(probe)) as backend:
        stubs = connect(backend.address)
        with stubs.channel:
            with pytest.raises(grpc.RpcError) as caught:
                stubs.model.HandleReloadConfigRequest(request, WAIT_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "1 model(s) did not become available: {{broken due to error: " in (
                caught.value.details()
            )
            response = stubs.prediction.Predict(
                predict_request(x=np.ones((1, 1), np.float32)), WAIT_S
            )
            assert response.model_spec.version.value == 1


def test_a_repository_has_no_list_to_replace(stubs: Any) -> None:
    from tensorflow_serving.apis import model_management_pb2

    with pytest.raises(grpc.RpcError) as caught:
        stubs.model.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), WAIT_S)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
