"""The gateway's settings, checked when they are made: by a program, or from a YAML file."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from serving.errors import ConfigError
from serving.gateway.versions import Choice


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every part of the settings: immutable, and strict about unknown names."""


class Tls(Section, frozen=True, kw_only=True):
    """Encryption of what callers send; files that change are read anew.

    Args:
        certificate: PEM, with the chain.
        key: its private key, PEM.
        client_ca: PEM; then only callers with a certificate of this authority are let in.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        for name in ("certificate", "key", "client_ca"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                _refuse(f"tls.{name}", str(path), "is no file; give a PEM file")


class RequestLog(Section, frozen=True, kw_only=True):
    """A sample of the predictions, one JSON object a line.

    Args:
        path: the file; older parts of it are `<path>.1`, `<path>.2` …
        sample: the share of calls that is written, above 0 and at most 1.
        payloads: also writes the inputs, which may be personal data.
        max_bytes: of one file.
        max_files: older parts that are kept.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    path: Path
    sample: float = 1.0
    payloads: bool = False
    max_bytes: int = 100 << 20
    max_files: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 1:
            _refuse("request_log.sample", self.sample, "is no share; give one up to 1")
        for name in ("max_bytes", "max_files"):
            if getattr(self, name) < 1:
                _refuse(f"request_log.{name}", getattr(self, name), "is too small; give 1 or more")


class GatewayConfig(Section, frozen=True, kw_only=True):
    """Everything that can be set.

    Args:
        models: the model repository; the gateway reads manifests and tokenizers from it.
        backend: `host:port` of TensorFlow Serving's gRPC; several share the calls.
        backends: the same for single models, by name.
        versions: which version of a model its calls get, by name; see `versions.Choice`.
        host: the address to listen on; the default is reachable from this machine only.
        port: of gRPC; 0 takes a free one.
        http_port: of health, metrics and predictions as JSON; 0 takes a free one.
        workers: processes that share the ports.
        tls: None lets everything through in the clear.
        keys: a file that `tensorseek serve key` writes; None lets everybody in.
        reload_from_loopback: whether a caller on this machine may have the backend reload its
            configuration; else only an admin key may.
        request_log: None writes none.
        max_message_bytes: of one request or answer.
        max_inputs: in one call.
        max_in_flight: calls being answered at once.
        max_streams: health watchers, bulk and other open calls, beside those.
        max_batch: rows in one call to the backend.
        max_delay_ms: how long a call may wait for others while the backend is busy; 0: not at all.
        busy_calls: so many calls at once keep one backend busy with one version, unless it answers
            within milliseconds: then one does.
        max_queue: rows that may wait for others.
        max_new_tokens: of one generated text.
        max_cache_bytes: what a language model may remember of one text; it travels to the backend
            and back with every few tokens.
        default_timeout_s: for a caller that set no deadline.
        deadline_margin_s: how much earlier than the caller the gateway gives up, so that its
            own message still arrives; never more than a tenth of the caller's time.
        idle_timeout_s: how long a bulk stream may stand still on its caller's side.
        poll_s: how often the repository, the backend and the files named here are looked at.
        drain_s: how long calls in flight may take to end after SIGTERM.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    models: Path
    backend: str | tuple[str, ...]
    backends: dict[str, str | tuple[str, ...]] = {}
    versions: dict[str, Choice] = {}
    host: str = "127.0.0.1"
    port: int = 9000
    http_port: int = 9001
    workers: int = 1
    tls: Tls | None = None
    keys: Path | None = None
    reload_from_loopback: bool = False
    request_log: RequestLog | None = None
    max_message_bytes: int = 4 << 20
    max_inputs: int = 1024
    max_in_flight: int = 256
    max_streams: int = 256
    max_batch: int = 32
    max_delay_ms: float = 20.0
    busy_calls: int = 2
    max_queue: int = 8192
    max_new_tokens: int = 1024
    max_cache_bytes: int = 64 << 20
    default_timeout_s: float = 30.0
    deadline_margin_s: float = 0.02
    idle_timeout_s: float = 60.0
    poll_s: float = 1.0
    drain_s: float = 20.0

    def __post_init__(self) -> None:
        if not self.models.is_dir():
            _refuse("models", str(self.models), "is no folder; give the model repository")
        for name, addresses in {"": self.backend, **self.backends}.items():
            _check_addresses(f"backends.{name}" if name else "backend", addresses)
        if not self.host:
            _refuse("host", self.host, "is empty; give an address such as 127.0.0.1")
        if self.keys is not None and not self.keys.is_file():
            _refuse("keys", str(self.keys), "is no file; write one with `tensorseek serve key`")
        self._check_numbers()

    def addresses(self, model: str = "") -> tuple[str, ...]:
        """The backends of a model, without one those of every other."""
        found = self.backends.get(model, self.backend)
        return (found,) if isinstance(found, str) else found

    def _check_numbers(self) -> None:
        for name in ("port", "http_port"):
            if not 0 <= getattr(self, name) <= 65535:
                _refuse(name, getattr(self, name), "is no port; give 1 to 65535, or 0 for any")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "is too small; give at least 1")
        for name in _ABOVE_ZERO:
            if not 0 < getattr(self, name) < math.inf:
                _refuse(name, getattr(self, name), "is no duration; give seconds above 0")
        if not 0 <= self.max_delay_ms < math.inf:
            _refuse("max_delay_ms", self.max_delay_ms, "is no duration; give 0 or more")


_AT_LEAST_ONE = (
    "workers",
    "max_message_bytes",
    "max_inputs",
    "max_in_flight",
    "max_streams",
    "max_batch",
    "busy_calls",
    "max_queue",
    "max_new_tokens",
    "max_cache_bytes",
)
_ABOVE_ZERO = ("default_timeout_s", "deadline_margin_s", "idle_timeout_s", "poll_s", "drain_s")


def _refuse(field: str, value: object, problem: str) -> None:
    raise ConfigError(f"{field}: {value!r} {problem}")


def _check_addresses(field: str, given: str | tuple[str, ...]) -> None:
    addresses = (given,) if isinstance(given, str) else given
    if not addresses:
        _refuse(field, [], "names none; give one such as 127.0.0.1:8500")
    for address in addresses:
        if not _is_address(address):
            _refuse(field, address, "is no host:port; give one such as 127.0.0.1:8500")


def _is_address(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    return bool(host and colon) and port.isascii() and port.isdecimal() and int(port) < 65536
