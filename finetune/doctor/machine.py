"""Cores, memory, disk, and the GPUs that the driver knows."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetune.doctor.finding import Fact, Finding, Problem
from finetune.gpu import Gpu

_GIB = 2**30
_LITTLE_MEMORY_BYTES = 4 * _GIB  # MiniLM, its optimizer and TensorFlow itself take 2
_LITTLE_DISK_BYTES = 5 * _GIB


def examine(folder: Path, gpus: Sequence[Gpu]) -> Iterator[Finding]:
    """Looks at the machine, and the disk where `folder` is or would be."""
    yield Fact(section="machine", name="system", value=platform.platform())
    yield Fact(section="machine", name="cores", value=str(len(os.sched_getaffinity(0))))
    yield from judge_memory(*_memory_bytes())
    place = folder.absolute()
    existing = next(each for each in (place, *place.parents) if each.exists())
    yield from judge_disk(existing, shutil.disk_usage(existing).free)
    driver = gpus[0].driver if gpus else "none answers"
    yield Fact(section="machine", name="NVIDIA driver", value=driver)
    for number, each in enumerate(gpus):
        value = f"{each.name}, {_gib(each.memory_bytes)}, capability {each.compute_capability}"
        yield Fact(section="machine", name=f"GPU {number}", value=value)


def judge_memory(total_bytes: int, available_bytes: int) -> Iterator[Finding]:
    """Whether there is memory enough for a small model."""
    value = f"{_gib(available_bytes)} of {_gib(total_bytes)} available"
    yield Fact(section="machine", name="memory", value=value)
    if available_bytes < _LITTLE_MEMORY_BYTES:
        yield Problem(
            what=f"only {_gib(available_bytes)} of memory are available",
            fix="close other programs, or train with a higher schedule.micro_batches",
            stops_training=False,
        )


def judge_disk(folder: Path, free_bytes: int) -> Iterator[Finding]:
    """Whether there is room for checkpoints and exports."""
    value = f"{_gib(free_bytes)} free at {folder}"
    yield Fact(section="machine", name="disk", value=value)
    if free_bytes < _LITTLE_DISK_BYTES:
        yield Problem(
            what=f"only {_gib(free_bytes)} of disk are free at {folder}",
            fix="remove old runs, or name another folder with --runs",
            stops_training=False,
        )


def _memory_bytes() -> tuple[int, int]:
    """All of it, and what is available, of this machine or of the container we are in."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    sizes = {
        name: int(rest.split()[0]) * 1024 for name, _, rest in (s.partition(":") for s in lines)
    }
    total, available = sizes["MemTotal"], sizes["MemAvailable"]
    group = Path("/sys/fs/cgroup")
    limit = (group / "memory.max").read_text().strip() if (group / "memory.max").exists() else "max"
    if limit == "max":
        return total, available
    used = int((group / "memory.current").read_text())
    return min(total, int(limit)), min(available, max(int(limit) - used, 0))


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.1f} GiB"
