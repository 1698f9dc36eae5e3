"""The configuration file: YAML, taken as a whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bundle import atomic
from serving.errors import ConfigError
from serving.gateway import access
from serving.gateway.config import GatewayConfig, RequestLog, Tls
from serving.gateway.tls import Certificates
from serving.gateway.versions import Choice

AT_ONCE = ("backend", "backends", "versions", "keys", "request_log")

_MAX_BYTES = 1 << 20
_UNKNOWN = re.compile("Object contains unknown field `(.+?)`")
_NAMES = [
    name for kind in (GatewayConfig, Tls, RequestLog, Choice) for name in kind.__struct_fields__
]


@dataclass(frozen=True)
class Source:
    """Where a configuration comes from.

    Args:
        path: a YAML file; paths in it count from its folder.
        overrides: what stands above the file, by name.
    """

    path: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> GatewayConfig:
        """Reads and checks the whole of it.

        Raises:
            ConfigError: it can't be read, or a setting is wrong; names it, its value and the fix.
        """
        return _convert(self.path, _read(self.path) | dict(self.overrides))


def choose(path: Path, model: str, choice: Choice) -> None:
    """Writes which versions of a model its calls get; a running gateway takes it up.

    The rest of the file stays as it is, but for its comments.

    Raises:
        ConfigError: the file would no longer be valid; it is left as it was.
    """
    content = _read(path)
    versions = dict(content.get("versions") or {})
    versions[model] = msgspec.to_builtins(choice)
    content["versions"] = versions
    _convert(path, content)
    atomic.write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())


def check(config: GatewayConfig) -> None:
    """Reads the files that a configuration names, as a gateway does when it starts.

    Raises:
        ConfigError: keys or certificates are not valid.
    """
    if config.keys:
        access.read(config.keys)
    if config.tls:
        Certificates(config.tls)


def changed(old: GatewayConfig, new: GatewayConfig) -> list[str]:
    """The settings in which `new` differs and that need a restart."""
    names = [name for name in GatewayConfig.__struct_fields__ if name not in AT_ONCE]
    return [name for name in names if getattr(old, name) != getattr(new, name)]


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path}: is over {_MAX_BYTES} bytes; it holds more than settings")
        content = yaml.safe_load(data)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}; give a YAML file") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no settings; write lines such as `models: models`")
    return content


def _convert(path: Path, content: Mapping[str, Any]) -> GatewayConfig:
    def as_path(kind: type, value: Any) -> Any:
        if kind is Path and isinstance(value, str | Path):
            return path.parent / value
        raise TypeError(f"Expected a path, got {type(value).__name__}")

    try:
        return msgspec.convert(content, GatewayConfig, dec_hook=as_path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from error


def _explain(reason: str) -> str:
    unknown = _UNKNOWN.match(reason)
    near = get_close_matches(unknown[1], _NAMES, 1) if unknown else []
    return f"{reason}; did you mean {near[0]!r}?" if near else reason
