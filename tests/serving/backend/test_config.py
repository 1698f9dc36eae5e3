"""Law: a wrong setting stops the backend before it starts, in one line that names the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.backend.config import BackendConfig
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
        ("poll_s", 0),
        ("poll_s", float("nan")),
        ("grace_s", -1),
        ("max_batch", 0),
        ("batch_threads", 0),
        ("batch_timeout_ms", -0.1),
        ("batch_timeout_ms", float("inf")),
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
