"""What computes here: a timing without it says nothing."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_NAMES = ("model name", "Hardware", "CPU implementer")
# Those that TFLite's kernels choose by.
_TELLING = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "sve",
)


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A processor."""

    name: str
    cores: int  # that this process may use
    flags: tuple[str, ...]  # the vector extensions it has


def find() -> Cpu:
    """This machine's."""
    fields = _cpuinfo()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    name = next((fields[key] for key in _NAMES if key in fields), platform.processor())
    return Cpu(
        name=name or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        flags=tuple(flag for flag in _TELLING if flag in flags),
    )


def _cpuinfo() -> dict[str, str]:
    """Of the last core; nothing where the system has no such file."""
    if not _CPUINFO.is_file():
        return {}
    lines = (line.partition(":") for line in _CPUINFO.read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in lines if value}
