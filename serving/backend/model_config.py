"""TensorFlow Serving's text files as settings.

    models.config             which models, and which versions of each      ─► [Listed]
    batching_parameters.txt   how calls are merged                          ─► Batching
    monitoring.config         where Prometheus asks                         ─► a path, or None
    ssl.config                key, certificate, who may call                ─► Tls

A message of HandleReloadConfigRequest is the first file's content, and means the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from google.protobuf import message, text_format
from tensorflow_serving.config import model_server_config_pb2

from protos import tfs_pb2
from serving.backend.batcher import Batching
from serving.errors import ConfigError
from serving.tfs_config import METRICS_PATH

M = TypeVar("M", bound=message.Message)

_PLATFORM = "tensorflow"
_MAX_FILE_BYTES = 1 << 20
# TensorFlow's SharedBatchScheduler, where a file leaves a parameter out.
_DEFAULT_ROWS, _DEFAULT_WAITING = 1000, 10


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One model of the list.

    Args:
        name: what callers ask for.
        base: folder of its version folders.
        latest: how many of the newest versions to serve; None for all.
        versions: the versions to serve, instead.
        labels: from label to version.
    """

    name: str
    base: Path
    latest: int | None = 1
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Tls:
    """What a server needs to prove who it is; PEM texts.

    Args:
        ca: certificates that a caller's must descend from.
        verify_clients: refuse a caller without such a certificate.
    """

    key: str
    certificate: str
    ca: str = ""
    verify_clients: bool = False


def read_models(path: Path) -> tuple[Listed, ...]:
    """The models of a `models.config`.

    Raises:
        ConfigError: names the file, the model and the field.
    """
    try:
        return listed(_read(path, model_server_config_pb2.ModelServerConfig()))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def listed(config: Any) -> tuple[Listed, ...]:
    """The models of a ModelServerConfig.

    Raises:
        ConfigError: names the model and the field.
    """
    if config.HasField("custom_model_config"):
        raise ConfigError("custom_model_config: is not supported; use model_config_list")
    if not config.HasField("model_config_list"):
        # As a file that is just being written may be: it must not end every model.
        raise ConfigError("model_config_list: is missing; list the models there")
    models = tuple(_listed(each) for each in config.model_config_list.config)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Illegal to list model {name} multiple times in config list")
    return models


def read_batching(path: Path | None) -> Batching:
    """The parameters of a `batching_parameters.txt`, with TensorFlow Serving's defaults.

    Raises:
        ConfigError: names the file and the parameter.
    """
    found = tfs_pb2.BatchingParameters()
    if path is not None:
        found = _read(path, found)
    rows = _positive(path, found, "max_batch_size", _DEFAULT_ROWS)
    if found.enable_large_batch_splitting.value:
        rows = _positive(path, found, "max_execution_batch_size", rows)
    sizes = tuple(found.allowed_batch_sizes)
    if sizes and (list(sizes) != sorted({*sizes}) or sizes[0] < 1 or sizes[-1] != rows):
        raise ConfigError(
            f"{path}: allowed_batch_sizes: is {list(sizes)}; the sizes must rise, "
            f"and the last one must be {rows}, the largest batch"
        )
    return Batching(
        max_rows=rows,
        timeout_s=_positive(path, found, "batch_timeout_micros", 0, least=0) / 1e6,
        slots=_positive(path, found, "num_batch_threads", os.cpu_count() or 1),
        max_waiting=_positive(path, found, "max_enqueued_batches", _DEFAULT_WAITING),
        sizes=sizes,
        pad=found.pad_variable_length_inputs,
    )


def read_monitoring(path: Path) -> str | None:
    """The HTTP path where Prometheus asks, of a `monitoring.config`; None when it is off.

    Raises:
        ConfigError: names the file and the field.
    """
    found = _read(path, tfs_pb2.MonitoringConfig()).prometheus_config
    where = found.path or METRICS_PATH
    if not where.startswith("/"):
        raise ConfigError(f"{path}: prometheus_config.path: is {where!r}; begin it with /")
    return where if found.enable else None


def read_tls(path: Path) -> Tls:
    """Key and certificates of an `ssl.config`.

    Raises:
        ConfigError: names the file and the field.
    """
    found = _read(path, tfs_pb2.SSLConfig())
    for name in ("server_key", "server_cert"):
        if not getattr(found, name).startswith("-----BEGIN"):
            raise ConfigError(f"{path}: {name}: is no PEM text; put the file's content there")
    if found.client_verify and not found.custom_ca:
        raise ConfigError(f"{path}: custom_ca: is empty; client_verify needs the clients' one")
    return Tls(
        key=found.server_key,
        certificate=found.server_cert,
        ca=found.custom_ca,
        verify_clients=found.client_verify,
    )


def _listed(config: Any) -> Listed:
    name, base = config.name, config.base_path
    if not name:
        raise ConfigError("name: is empty; name each model of model_config_list")
    if not base or "://" in base:
        problem = "is empty" if not base else f"is {base!r}, which is not on this machine"
        raise ConfigError(f"{name}: base_path: {problem}; give the folder of its version folders")
    _check_platform(name, config)
    policy = config.model_version_policy
    versions = tuple(policy.specific.versions)
    kind: Literal["latest", "all", "specific"] | None = policy.WhichOneof("policy_choice")
    if kind == "specific" and not versions:
        raise ConfigError(f"{name}: model_version_policy.specific.versions: is empty; name one")
    if any(version < 0 for version in (*versions, *config.version_labels.values())):
        raise ConfigError(f"{name}: has a version below 0; versions are 0, 1, 2 …")
    return Listed(
        name=name,
        base=Path(base),
        latest=(policy.latest.num_versions or 1) if kind in ("latest", None) else None,
        versions=versions,
        labels=dict(config.version_labels),
    )


def _check_platform(name: str, config: Any) -> None:
    if config.model_type == model_server_config_pb2.TENSORFLOW and not config.model_platform:
        return  # how old files say it
    if config.model_platform != _PLATFORM:
        raise ConfigError(
            f"{name}: model_platform: is {config.model_platform!r}; use {_PLATFORM!r}"
        )


def _positive(path: Path | None, found: Any, name: str, default: int, *, least: int = 1) -> int:
    if not found.HasField(name):
        return default
    value: int = getattr(found, name).value
    if value < least:
        raise ConfigError(f"{path}: {name}: is {value}; use {least} or more")
    return value


def _read(path: Path, into: M) -> M:
    """Parses protobuf's text format."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {_MAX_FILE_BYTES} bytes; is it the right file?")
    try:
        return text_format.Parse(data.decode(), into)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path}: is no {into.DESCRIPTOR.name} in text format: {error}"
        ) from error
