"""Law: a wrong setting stops the backend before it starts, in one line that names the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.backend.batcher import Batching
from serving.backend.config import BackendConfig, Loading, Rest
from serving.backend.manager import Pace
from serving.errors import ConfigError


def test_the_defaults_are_tensorflow_servings_port_on_this_machine_only(tmp_path: Path) -> None:
    config = BackendConfig(models=tmp_path)
    assert (config.host, config.port) == ("127.0.0.1", 8500)


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models: .*/nowhere is not a directory; create it"):
        BackendConfig(models=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("host", ""),
        ("port", -1),
        ("port", 65536),
        ("grpc_threads", 0),
        ("max_queue", -1),
        ("max_message_bytes", 0),
        ("max_message_bytes", 1 << 31),
        ("drain_s", -1),
    ],
)
def test_a_value_out_of_range_is_named_with_its_setting(
    tmp_path: Path, setting: str, value: Any
) -> None:
    settings: dict[str, Any] = {"models": tmp_path, setting: value}
    with pytest.raises(ConfigError, match=f"^{setting}: is .*; use "):
        BackendConfig(**settings)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        (Pace, "pace.poll_s", 0),
        (Pace, "pace.poll_s", float("nan")),
        (Pace, "pace.grace_s", -1),
        (Pace, "pace.load_threads", 0),
        (Pace, "pace.retries", -1),
        (Batching, "batching.max_rows", 0),
        (Batching, "batching.slots", 0),
        (Batching, "batching.timeout_s", -0.1),
        (Batching, "batching.timeout_s", float("inf")),
        (Batching, "batching.max_waiting", 0),
        (Rest, "rest.port", 65536),
        (Rest, "rest.timeout_s", 0),
        (Loading, "loading.intra_op_threads", -1),
        (Loading, "loading.warm_up_times", 0),
        (Loading, "loading.gpu_memory", 1.1),
    ],
)
def test_so_is_one_of_its_parts(kind: Callable[..., Any], setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{setting}: is .*; use "):
        kind(**{setting.partition(".")[2]: value})


def test_ports_that_exclude_each_other_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^port: is None, as socket is; "):
        BackendConfig(models=tmp_path, port=None)
    with pytest.raises(ConfigError, match=r"^rest.port: is 8500, as port is; "):
        BackendConfig(models=tmp_path, rest=Rest(port=8500))
