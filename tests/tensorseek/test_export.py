"""Laws of `tensorseek export`: it tells what it wrote, and never guesses a format."""

from __future__ import annotations

import json
import shutil
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
    assert "name a format: --edge, --onnx or --tensorrt" in done.stderr


def test_an_unknown_model_is_one_line(tmp_path: Path) -> None:
    models = tmp_path / "models"
    done = run(models, "--onnx")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tensorseek: {models}: no model 'tiny'")


def test_an_edge_bundle_of_a_run_tells_how_it_was_quantized(tmp_path: Path, published: Any) -> None:
    models = tmp_path / "models"
    shutil.copytree(published.models, models, ignore=shutil.ignore_patterns("edge"))
    (folder,) = (published.runs / "tiny").iterdir()
    command = [sys.executable, "-m", "tensorseek.cli", "export", str(folder), "--edge", "full_int8"]
    command += ["--json", "--models", str(models), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(done.stdout)["edge"]
    assert made["profile"] == "full_int8"
    assert Path(made["path"]) == models / "tiny" / "edge" / "1-full_int8.zip"
    assert made["evaluation"]["drop"] <= 0.015
    assert [attempt["passed"] for attempt in made["search"]].count(True) == 1
    assert made["islands"] == []


def test_an_unknown_profile_is_a_wrong_command_line(tmp_path: Path) -> None:
    done = run(tmp_path / "models", "--edge", "int3")
    assert done.returncode == 2
    assert "--edge 'int3': the profiles are float32, float16, dynamic_int8," in " ".join(
        done.stderr.replace("│", " ").split()
    )


def test_a_run_that_published_nothing_is_named(tmp_path: Path, published: Any) -> None:
    (folder,) = (published.runs / "tiny").iterdir()
    command = [sys.executable, "-m", "tensorseek.cli", "export", str(folder), "--edge", "float32"]
    command += ["--models", str(tmp_path / "none"), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    line = f"tensorseek: {folder}: no version in {tmp_path / 'none'} was trained by this run"
    assert done.stderr.strip() == line
