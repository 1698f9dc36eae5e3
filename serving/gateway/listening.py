"""Ports, and what is said of those that can't be had."""

from __future__ import annotations

import socket

from serving.errors import ConfigError


def check_free(host: str, port: int) -> None:
    """Raises the OSError that gRPC, when it binds in vain, only writes to standard error."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def refusal(setting: str, port: int, host: str, error: Exception) -> ConfigError:
    """The error for a port that can't be had."""
    reason = error.strerror if isinstance(error, OSError) else error
    return ConfigError(f"{setting}: {port} on {host} can't be had: {reason}; give another one")
