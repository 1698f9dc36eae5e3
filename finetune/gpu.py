"""The NVIDIA GPUs of this machine, as its driver tells them: TensorFlow may see fewer."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

_TOOL = "nvidia-smi"  # comes with the driver
_FIELDS = ("name", "memory.total", "driver_version", "compute_cap")
_TIMEOUT_S = 30.0
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU."""

    name: str
    memory_bytes: int
    driver: str
    compute_capability: str  # such as 8.6


def find() -> list[Gpu]:
    """Every GPU that the driver knows; empty without a driver, or when it does not answer."""
    if shutil.which(_TOOL) is None:
        return []
    command = [_TOOL, f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):  # a driver that does not fit its kernel
        return []
    return [_gpu(line) for line in done.stdout.splitlines() if line.strip()]


def _gpu(line: str) -> Gpu:
    name, mebibytes, driver, capability = (field.strip() for field in line.split(","))
    # Some share their memory with the host and tell "[N/A]".
    memory_bytes = int(mebibytes) * _MIB if mebibytes.isdigit() else 0
    return Gpu(name=name, memory_bytes=memory_bytes, driver=driver, compute_capability=capability)
