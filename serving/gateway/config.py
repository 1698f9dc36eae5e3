"""The gateway's settings, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from serving.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """Everything that can be set.

    Args:
        models: the model repository; the gateway reads manifests and tokenizers from it.
        backend: `host:port` of TensorFlow Serving's gRPC.
        host: the address to listen on; the default is reachable from this machine only.
        port: of gRPC; 0 takes a free one.
        http_port: of health and metrics; 0 takes a free one.
        max_message_bytes: of one request or answer.
        max_inputs: in one call.
        max_in_flight: calls being answered at once.
        max_streams: health watchers and other open calls, beside those.
        max_batch: rows in one call to the backend.
        max_new_tokens: of one generated text.
        max_cache_bytes: what a language model may remember of one text; it travels to the backend
            and back with every few tokens.
        default_timeout_s: for a caller that set no deadline.
        deadline_margin_s: how much earlier than the caller the gateway gives up, so that its
            own message still arrives; never more than a tenth of the caller's time.
        poll_s: how often the repository and the backend are asked what they have.
        drain_s: how long calls in flight may take to end after SIGTERM.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    models: Path
    backend: str
    host: str = "127.0.0.1"
    port: int = 9000
    http_port: int = 9001
    max_message_bytes: int = 4 << 20
    max_inputs: int = 1024
    max_in_flight: int = 256
    max_streams: int = 256
    max_batch: int = 32
    max_new_tokens: int = 1024
    max_cache_bytes: int = 64 << 20
    default_timeout_s: float = 30.0
    deadline_margin_s: float = 0.02
    poll_s: float = 1.0
    drain_s: float = 20.0

    def __post_init__(self) -> None:
        if not self.models.is_dir():
            _refuse("models", str(self.models), "is no folder; give the model repository")
        if not _is_address(self.backend):
            _refuse("backend", self.backend, "is no host:port; give one such as 127.0.0.1:8500")
        if not self.host:
            _refuse("host", self.host, "is empty; give an address such as 127.0.0.1")
        for name in ("port", "http_port"):
            if not 0 <= getattr(self, name) <= 65535:
                _refuse(name, getattr(self, name), "is no port; give 1 to 65535, or 0 for any")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "is too small; give at least 1")
        for name in _ABOVE_ZERO:
            if not 0 < getattr(self, name) < math.inf:
                _refuse(name, getattr(self, name), "is no duration; give seconds above 0")


_AT_LEAST_ONE = (
    "max_message_bytes",
    "max_inputs",
    "max_in_flight",
    "max_streams",
    "max_batch",
    "max_new_tokens",
    "max_cache_bytes",
)
_ABOVE_ZERO = ("default_timeout_s", "deadline_margin_s", "poll_s", "drain_s")


def _refuse(field: str, value: object, problem: str) -> None:
    raise ConfigError(f"{field}: {value!r} {problem}")


def _is_address(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    return bool(host and colon) and port.isascii() and port.isdecimal() and int(port) < 65536
