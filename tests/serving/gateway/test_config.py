"""Laws of the settings: a wrong one fails at once, naming itself, its value and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.errors import ConfigError
from serving.gateway.config import GatewayConfig


def test_the_defaults_listen_on_this_machine_only(tmp_path: Path) -> None:
    config = GatewayConfig(models=tmp_path, backend="127.0.0.1:8500")
    assert (config.host, config.port, config.http_port) == ("127.0.0.1", 9000, 9001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": Path("/none")}, "models: '/none' is no folder; give the model repository"),
        ({"backend": "8500"}, "backend: '8500' is no host:port; give one such as 127.0.0.1:8500"),
        ({"backend": "host:"}, "backend: 'host:' is no host:port"),
        ({"backend": "host:65536"}, "backend: 'host:65536' is no host:port"),
        ({"host": ""}, "host: '' is empty; give an address"),
        ({"port": 65536}, "port: 65536 is no port; give 1 to 65535, or 0 for any"),
        ({"http_port": -1}, "http_port: -1 is no port"),
        ({"max_inputs": 0}, "max_inputs: 0 is too small; give at least 1"),
        ({"max_batch": 0}, "max_batch: 0 is too small"),
        ({"poll_s": 0}, "poll_s: 0 is no duration; give seconds above 0"),
        ({"drain_s": float("nan")}, "drain_s: nan is no duration"),
        ({"default_timeout_s": float("inf")}, "default_timeout_s: inf is no duration"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GatewayConfig(**{"models": tmp_path, "backend": "127.0.0.1:8500", **change})
    assert str(caught.value).startswith(message)
