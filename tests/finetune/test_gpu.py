"""Laws of the look at GPUs: what the driver's tool says, and none when it does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune import gpu
from finetune.gpu import Gpu


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that stands for the driver's, which no test machine has."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "nvidia-smi"


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_each_line_is_a_gpu(tool: Path) -> None:
    write(tool, "echo 'NVIDIA L4, 23034, 550.54.15, 8.9'; echo 'NVIDIA GB10, [N/A], 580.1, 12.1'")
    assert gpu.find() == [
        Gpu(
            name="NVIDIA L4",
            memory_bytes=23034 * 2**20,
            driver="550.54.15",
            compute_capability="8.9",
        ),
        Gpu(name="NVIDIA GB10", memory_bytes=0, driver="580.1", compute_capability="12.1"),
    ]


def test_without_a_driver_there_is_none(tool: Path) -> None:
    assert gpu.find() == []


def test_a_driver_that_fails_has_none(tool: Path) -> None:
    write(tool, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert gpu.find() == []
