"""TensorFlow Serving's own text files, made from a model repository.

    models/movie-sentiment/3, 4, pin.json ─► models.config            which versions of each model
                                             batching_parameters.txt  how calls are merged
                                             monitoring.config        where Prometheus asks

A pinned model is served in that version alone; of another one the two newest are, so that callers
of the old version are answered while they move to the new one. A version on trial is served beside
those, to who names it, as a gateway does; one that was withdrawn is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundle import atomic
from bundle.repository import ModelRepository
from serving.errors import ConfigError

METRICS_PATH = "/monitoring/prometheus/metrics"
_KEPT = 2  # newest versions of a model that is not pinned


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How TensorFlow Serving merges calls.

    Args:
        max_rows: of one run of a model.
        threads: merged runs at once; about as many as a GPU takes, or as there are cores.
        timeout_us: how long an idle model waits for more rows.
        max_queue: merged runs that may wait; more calls are refused.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    max_rows: int = 64
    threads: int = 2
    timeout_us: int = 0
    max_queue: int = 64

    def __post_init__(self) -> None:
        for name, low in (("max_rows", 1), ("threads", 1), ("timeout_us", 0), ("max_queue", 1)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name}: is {getattr(self, name)}; use {low} or more")


def write(
    repository: ModelRepository, base: PurePosixPath, out: Path, batching: Batching
) -> list[str]:
    """Writes the files into `out`; those that would not change are left alone.

    Args:
        base: the repository's path where TensorFlow Serving runs.

    Returns:
        Names of the files that were written.
    """
    files = {
        "models.config": _models(repository, base),
        "batching_parameters.txt": _batching(batching),
        "monitoring.config": _monitoring(),
    }
    changed = []
    for name, text in files.items():
        path = out / name
        if not path.is_file() or path.read_text() != text:
            atomic.write_bytes(path, text.encode())
            changed.append(name)
    return changed


def _models(repository: ModelRepository, base: PurePosixPath) -> str:
    blocks = []
    for name in repository.names():
        policy = _policy(repository, name)
        blocks.append(
            "  config {\n"
            f"    name: {_quoted(name)}\n"
            f"    base_path: {_quoted(str(base / name))}\n"
            '    model_platform: "tensorflow"\n'
            f"    model_version_policy {{ {policy} }}\n"
            "  }\n"
        )
    return f"model_config_list {{\n{''.join(blocks)}}}\n"


def _policy(repository: ModelRepository, name: str) -> str:
    pinned, held = repository.pinned(name), repository.held(name)
    if pinned is not None:
        return f"specific {{ versions: {pinned} }}"
    known = repository.versions(name)
    usual = [version for version in known if version not in held]
    if not usual or len(usual) == len(known):
        return f"latest {{ num_versions: {_KEPT} }}"
    named = [*usual[-_KEPT:], *(each for each in known if each == held.trial)]
    return f"specific {{ {' '.join(f'versions: {each}' for each in named)} }}"


def _batching(batching: Batching) -> str:
    return (
        f"max_batch_size {{ value: {batching.max_rows} }}\n"
        f"batch_timeout_micros {{ value: {batching.timeout_us} }}\n"
        f"num_batch_threads {{ value: {batching.threads} }}\n"
        f"max_enqueued_batches {{ value: {batching.max_queue} }}\n"
    )


def _monitoring() -> str:
    return f"prometheus_config {{ enable: true path: {_quoted(METRICS_PATH)} }}\n"


def _quoted(text: str) -> str:
    return json.dumps(text)  # escapes as protobuf's text format does
