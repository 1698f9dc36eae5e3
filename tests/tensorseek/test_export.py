"""Laws of `tensorseek export`: it tells what it wrote, and never guesses a format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(models: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tensorseek.cli", "export", "tiny", *arguments]
    command += ["--models", str(models), "--runs", str(models.parent / "runs")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_an_onnx_file_is_written_and_told(tmp_path: Path, publish_tiny: Any) -> None:
    models = tmp_path / "models"
    publish_tiny(models)
    publish_tiny(models, seed=1)
    done = run(models, "--onnx", "--version", "1", "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["version"]) == (0, 1)
    assert answer["random_difference"] < answer["tolerance"]
    assert answer["size_bytes"] == Path(answer["onnx"]).stat().st_size
    assert [path.name for path in (models / "tiny" / "onnx").iterdir()] == ["1.onnx"]


def test_no_format_is_a_wrong_command_line(tmp_path: Path) -> None:
    done = run(tmp_path / "models")
    assert done.returncode == 2
    assert "name a format: --onnx or --tensorrt" in done.stderr


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    models = tmp_path / "models"
    done = run(models, "--onnx")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tensorseek: {models}: no model 'tiny'")
