"""How a client reaches a gateway: address, key, certificates, and what is tried again."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import grpc

from serving.errors import ConfigError, LimitExceeded, ServingError, error_of

MAX_RETRIES = 4  # gRPC makes no more than five attempts

_SERVICE = "tensorseek.v1.Inference"
_BACKOFF_S, _MAX_BACKOFF_S, _GROWTH = 0.1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Tls:
    """The PEM files of an encrypted connection.

    Args:
        ca: who signed the gateway's certificate; None for those that the system trusts.
        certificate: the client's own, where the gateway asks for one.
        private_key: of `certificate`.
    """

    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigError("tls: certificate and private_key belong together; give both or none")

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of them.

        Raises:
            ConfigError: a file can't be read; names it.
        """
        files = (self.ca, self.private_key, self.certificate)
        try:
            ca, private_key, certificate = (path.read_bytes() if path else None for path in files)
        except OSError as error:
            raise ConfigError(f"tls: {error.filename}: can't be read: {error.strerror}") from error
        return grpc.ssl_channel_credentials(ca, private_key, certificate)

    def context(self) -> ssl.SSLContext:
        """The same for HTTP.

        Raises:
            ConfigError: a file can't be used; names them.
        """
        files = (self.ca, self.certificate, self.private_key)
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.private_key)
        except OSError as error:  # ssl's own errors are some too
            named = ", ".join(str(path) for path in files if path)
            raise ConfigError(f"tls: {named}: can't be used: {error}; give PEM files") from error
        return context


class Settings(TypedDict, total=False):
    """What a client may be told besides the address; `Connection` says what each means."""

    timeout_s: float
    retries: int
    key: str | None
    tls: Tls | None
    max_message_bytes: int


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a gateway is, and how it is asked.

    A call that finds no gateway, or one that has too much to do, is made again after 0.1, 0.3, 0.9,
    2 seconds, or when the gateway says: what a model computes changes nothing. `timeout_s` ends all
    attempts together.

    Args:
        address: `host:port` of the gateway's gRPC; a name that stands for several is asked in turn.
        timeout_s: how long one call may take.
        retries: how often a call is made again, 0 to 4.
        key: the API key, which should only travel encrypted.
        tls: None sends everything in the clear.
        max_message_bytes: of one request or answer.

    Raises:
        ConfigError: names the argument, its value and the fix.
    """

    address: str
    timeout_s: float = 30.0
    retries: int = 3
    key: str | None = None
    tls: Tls | None = None
    max_message_bytes: int = 4 << 20

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout_s: is {self.timeout_s}; give seconds above 0")
        if not 0 <= self.retries <= MAX_RETRIES:
            raise ConfigError(f"retries: is {self.retries}; give 0 to {MAX_RETRIES}")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise ConfigError(
                "key: has characters that no key has; copy it whole, without line end"
            )

    @property
    def options(self) -> Sequence[tuple[str, Any]]:
        """What gRPC is told of the connection."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.service_config", json.dumps(_service_config(self.retries))),
            # A gateway that comes back is found within two seconds, not within two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]

    @staticmethod
    def pause_s(attempt: int) -> float:
        """How long to wait before an attempt is followed by another one; the first is 0."""
        return float(min(_BACKOFF_S * _GROWTH**attempt, _MAX_BACKOFF_S))

    def metadata(self, request_key: str = "") -> Sequence[tuple[str, str]]:
        """What goes with each call.

        Args:
            request_key: keeps its bearer on one version of a model that is split; "" for none.

        Raises:
            ConfigError: it can't be sent.
        """
        if not (request_key.isascii() and request_key.isprintable()):
            raise ConfigError("request_key: give printable ASCII, such as a user's number")
        pairs = []
        if self.key:
            pairs.append(("authorization", f"Bearer {self.key}"))
        if request_key:
            pairs.append(("x-request-key", request_key))
        return pairs


def error_from(error: Any) -> ServingError:
    """What a client raises for a call that failed.

    Args:
        error: gRPC's; every error of a call has these methods, the base class just doesn't say so.
    """
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.CANCELLED:  # not by us: a server that ends says so
        code, details = grpc.StatusCode.UNAVAILABLE, "the gateway ends; ask again"
    known = error_of(code, details)
    if isinstance(known, LimitExceeded):
        for name, value in error.trailing_metadata() or ():
            if name == "retry-after-ms":
                known.retry_after_s = int(value) / 1e3
    return known


def _service_config(retries: int) -> dict[str, Any]:
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retries:
        policy = {
            "maxAttempts": retries + 1,
            "initialBackoff": f"{_BACKOFF_S}s",
            "maxBackoff": f"{_MAX_BACKOFF_S}s",
            "backoffMultiplier": _GROWTH,
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        }
        config["methodConfig"] = [{"name": [{"service": _SERVICE}], "retryPolicy": policy}]
        # When most calls fail, nothing is tried again: a gateway in distress gets no more of them.
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.5}
    return config
