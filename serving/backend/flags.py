"""`tensorflow_model_server`'s own flags as settings of the backend.

Both `--flag=value` and `--flag value`; a bool may stand alone, as `--flag`.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from serving.backend import model_config
from serving.backend.batcher import Batching
from serving.backend.config import BackendConfig, Loading, Rest
from serving.backend.manager import Pace
from serving.backend.model_config import Listed
from serving.errors import ConfigError

EVERYWHERE = "0.0.0.0"  # noqa: S104  # where the real one listens

_MAX_MESSAGE_BYTES = 64 << 20
_LARGEST_MESSAGE_BYTES = (1 << 31) - 1

# TensorFlow Serving's defaults. A bool may stand alone, as --flag.
_FLAGS: dict[str, tuple[bool | int | float | str, str]] = {
    "port": (8500, "TCP port of gRPC; 0 for none."),
    "grpc_socket_path": ("", "Unix socket of gRPC."),
    "rest_api_port": (0, "Port of HTTP; 0 for none."),
    "rest_api_enable_cors_support": (False, "Let pages of other sites ask over HTTP."),
    "rest_api_timeout_in_ms": (30_000, "How long an answer over HTTP may take."),
    "grpc_channel_arguments": ("", "Comma-separated name=value pairs for gRPC's server."),
    "grpc_max_threads": (32, "Calls worked on at once."),
    "model_name": ("default", "Name of the one model."),
    "model_base_path": ("", "Folder of the one model's versions."),
    "model_config_file": ("", "List of models, a ModelServerConfig as text."),
    "model_config_file_poll_wait_seconds": (0, "How often to read it again; 0 for never."),
    "allow_version_labels_for_unavailable_models": (False, "Let new labels name any version."),
    "file_system_poll_wait_seconds": (1, "How often to look for versions; 0 for once."),
    "num_load_threads": (0, "Models that load at once; 0 for one after the other."),
    "max_num_load_retries": (5, "How often a version that fails to load is tried again."),
    "load_retry_interval_micros": (60_000_000, "Time before that."),
    "enable_batching": (False, "Merge calls."),
    "batching_parameters_file": ("", "How, a BatchingParameters as text."),
    "monitoring_config_file": ("", "Where Prometheus asks, a MonitoringConfig as text."),
    "ssl_config_file": ("", "Key and certificates, an SSLConfig as text."),
    "saved_model_tags": ("serve", "Which graph of a SavedModel; serve alone."),
    "prefer_tflite_model": (False, "Take model.tflite of a version that has one."),
    "enable_model_warmup": (True, "Replay the requests that came with a model."),
    "num_request_iterations_for_warmup": (0, "How often each of them."),
    "enable_serialization_as_tensor_content": (False, "Answer numbers as bytes."),
    "per_process_gpu_memory_fraction": (0.0, "How much of a GPU's memory to take; 0 for all."),
    "tensorflow_session_parallelism": (0, "Threads of an operation, and operations at once."),
    "tensorflow_intra_op_parallelism": (0, "Threads of an operation."),
    "tensorflow_inter_op_parallelism": (0, "Operations at once."),
}
# Taken, so that scripts start unchanged; what they would change is not there, or always so.
_WITHOUT_EFFECT: dict[str, bool | int] = {
    "enable_grpc_healthcheck_service": False,  # always on
    "enable_profiler": True,
    "enable_signature_method_name_check": False,
    "flush_filesystem_caches": True,
    "num_tflite_interpreters_per_pool": 1,
    "num_tflite_pools": 1,
    "num_unload_threads": 0,
    "remove_unused_fields_from_bundle_metagraph": True,
    "rest_api_num_threads": 0,
    "xla_cpu_compilation_enabled": False,
}


def read(flags: argparse.Namespace) -> BackendConfig:
    """The settings that flags ask for.

    Raises:
        ConfigError: names the flag or the file, the value and the fix.
    """
    if flags.rest_api_port and flags.rest_api_port == flags.port:
        raise ConfigError("--rest_api_port cannot be same as --port; give HTTP one of its own")
    if flags.saved_model_tags != "serve":
        raise ConfigError(f"--saved_model_tags: is {flags.saved_model_tags!r}; use serve")
    arguments = _grpc_arguments(flags.grpc_channel_arguments)
    largest = arguments.pop("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)
    if isinstance(largest, str):
        raise ConfigError(
            f"--grpc_channel_arguments: grpc.max_receive_message_length is {largest!r}; "
            "use a number of bytes"
        )
    return BackendConfig(
        models=_models(flags),
        list_file=_path(flags.model_config_file),
        list_poll_s=flags.model_config_file_poll_wait_seconds,
        labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
        host=EVERYWHERE,
        port=flags.port or None,
        socket=_path(flags.grpc_socket_path),
        tls=model_config.read_tls(Path(flags.ssl_config_file)) if flags.ssl_config_file else None,
        grpc_arguments=tuple(arguments.items()),
        rest=_rest(flags),
        pace=_pace(flags),
        batching=_batching(flags),
        loading=_loading(flags),
        answer_values=not flags.enable_serialization_as_tensor_content,
        grpc_threads=flags.grpc_max_threads,
        max_message_bytes=_LARGEST_MESSAGE_BYTES if largest == -1 else largest,
    )


def parser(name: str, example: str) -> argparse.ArgumentParser:
    """Reads the flags.

    Args:
        name: of the program.
        example: the line that ends its help.
    """
    parser = argparse.ArgumentParser(
        prog=name,
        description="TensorFlow Serving's API over SavedModels, without TensorFlow Serving.",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag, (default, text) in _FLAGS.items():
        _add(parser, flag, default, f"{text} [{default}]")
    for flag, without in _WITHOUT_EFFECT.items():
        _add(parser, flag, without, "Taken, without effect.")
    return parser


def _add(
    parser: argparse.ArgumentParser, name: str, default: bool | int | float | str, text: str
) -> None:
    if isinstance(default, bool):
        parser.add_argument(
            f"--{name}", nargs="?", const=True, default=default, type=_bool, help=text
        )
    else:
        parser.add_argument(f"--{name}", default=default, type=type(default), help=text)


def _bool(text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in {"true", "1"}


def _models(flags: argparse.Namespace) -> tuple[Listed, ...]:
    if flags.model_config_file:
        return model_config.read_models(Path(flags.model_config_file))
    if not flags.model_base_path:
        raise ConfigError("--model_base_path and --model_config_file are empty; give one of them")
    if "://" in flags.model_base_path:
        raise ConfigError(f"--model_base_path: {flags.model_base_path} is not on this machine")
    return (Listed(name=flags.model_name, base=Path(flags.model_base_path)),)


def _rest(flags: argparse.Namespace) -> Rest | None:
    path = _path(flags.monitoring_config_file)
    metrics = model_config.read_monitoring(path) if path else None
    if not flags.rest_api_port:
        return None
    return Rest(
        port=flags.rest_api_port,
        timeout_s=flags.rest_api_timeout_in_ms / 1000,
        metrics_path=metrics,
        cors=flags.rest_api_enable_cors_support,
    )


def _pace(flags: argparse.Namespace) -> Pace:
    return Pace(
        poll_s=flags.file_system_poll_wait_seconds or math.inf,
        grace_s=0.0,  # a version that was replaced goes once its calls have ended
        load_threads=flags.num_load_threads or 1,
        retries=flags.max_num_load_retries,
        retry_s=max(flags.load_retry_interval_micros, 0) / 1e6,
    )


def _batching(flags: argparse.Namespace) -> Batching | None:
    if flags.enable_batching:
        return model_config.read_batching(_path(flags.batching_parameters_file))
    if flags.batching_parameters_file:
        raise ConfigError(
            "--batching_parameters_file is set without setting --enable_batching to true"
        )
    return None


def _loading(flags: argparse.Namespace) -> Loading:
    both = flags.tensorflow_session_parallelism
    return Loading(
        prefer_tflite=flags.prefer_tflite_model,
        warm_up=flags.enable_model_warmup,
        warm_up_times=flags.num_request_iterations_for_warmup or 1,
        intra_op_threads=flags.tensorflow_intra_op_parallelism or both,
        inter_op_threads=flags.tensorflow_inter_op_parallelism or both,
        gpu_memory=flags.per_process_gpu_memory_fraction,
    )


def _grpc_arguments(text: str) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--grpc_channel_arguments: {pair!r} has no =; write name=value")
        is_number = value.removeprefix("-").isdecimal() and value.isascii()
        found[name] = int(value) if is_number else value
    return found


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def without_effect(flags: argparse.Namespace) -> list[str]:
    """The flags that were set, and change nothing here."""
    # Health is always on, so who asks for it has it.
    asked = {name: getattr(flags, name) for name in _WITHOUT_EFFECT}
    asked["enable_grpc_healthcheck_service"] = False
    return [f"--{name}" for name, value in asked.items() if value != _WITHOUT_EFFECT[name]]
