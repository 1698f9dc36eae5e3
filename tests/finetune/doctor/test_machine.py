"""Laws of the look at the machine: it tells sizes, and warns of too little without refusing."""

from __future__ import annotations

from pathlib import Path

from finetune.doctor import machine
from finetune.gpu import Gpu

GIB = 2**30


def test_a_folder_that_is_not_there_yet_has_a_disk(tmp_path: Path) -> None:
    found = {each.name: each.value for each in machine.examine(tmp_path / "a" / "b", [])}
    assert found["disk"].endswith(f"free at {tmp_path}")
    assert int(found["cores"]) >= 1
    assert found["NVIDIA driver"] == "none answers"


def test_every_gpu_is_told(tmp_path: Path) -> None:
    gpu = Gpu(name="L4", memory_bytes=24 * GIB, driver="550.1", compute_capability="8.9")
    found = {each.name: each.value for each in machine.examine(tmp_path, [gpu, gpu])}
    assert found["NVIDIA driver"] == "550.1"
    assert found["GPU 1"] == "L4, 24.0 GiB, capability 8.9"


def test_too_little_is_a_note_with_a_fix() -> None:
    (enough,) = machine.judge_memory(16 * GIB, 8 * GIB)
    assert enough.value == "8.0 GiB of 16.0 GiB available"
    _, memory = machine.judge_memory(16 * GIB, GIB)
    assert memory.what == "only 1.0 GiB of memory are available"
    _, disk = machine.judge_disk(Path("/data"), GIB)
    assert disk.what == "only 1.0 GiB of disk are free at /data"
    assert not memory.stops_training
    assert not disk.stops_training
