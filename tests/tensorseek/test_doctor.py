"""Laws of `tensorseek doctor`: people and scripts can read it; it exits 1 if nothing can train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tensorseek.cli", "doctor", *arguments]
    variables = os.environ | environment
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=variables
    )


def test_a_sound_machine_can_train() -> None:
    done = run("--json")
    answer = json.loads(done.stdout)
    facts = {(fact["section"], fact["name"]): fact["value"] for fact in answer["facts"]}
    assert done.returncode == 0
    assert answer["can_train"]
    assert not [each for each in answer["problems"] if each["stops_training"]]
    for name in ("version", "built for CUDA", "built for cuDNN", "GPUs", "XLA", "precision: auto"):
        assert facts["TensorFlow", name]


def test_a_broken_one_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('half [red]of it')")
    done = run(PYTHONPATH=f"{tmp_path}:{ROOT}", TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 1
    assert "wrong: TensorFlow does not start: ImportError: half [red]of it\n  fix: " in done.stdout
    assert "wrong: TF_USE_LEGACY_KERAS is '0', so TensorFlow uses Keras 3" in done.stdout
    assert "transformers" in done.stdout
