"""Law: each role installs alone: the phone and the gateway never pull TensorFlow."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

_EDGE = """
import sys
from edge.runner import EdgeRunner
runner = EdgeRunner.open(sys.argv[1])
print(runner.runtime.name, runner.predict("a very good film")[0].label)
"""


@pytest.fixture(scope="session")
def edge_bundle(
    tmp_path_factory: pytest.TempPathFactory, publish_tiny: Any, publish_tiny_edge: Any
) -> Path:
    root = tmp_path_factory.mktemp("models")
    return Path(publish_tiny_edge(publish_tiny(root)))


@pytest.fixture(scope="session")
def expected_label(tiny_answer: Any) -> str:
    return ("negative", "positive")[tiny_answer("a very good film").argmax()]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a release would publish."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def bare_environment(folder: Path, requirement: str) -> Path:
    """The interpreter of a new virtual environment that holds `requirement` alone."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, requirement], check=False, timeout=280, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return python


def installed(python: Path) -> set[str]:
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {line.split("==")[0].lower().replace("_", "-") for line in listed.stdout.splitlines()}


def test_edge_installs_without_tensorflow_and_answers(
    wheel: Path, tmp_path: Path, edge_bundle: Path, expected_label: str
) -> None:
    python = bare_environment(tmp_path / "venv", f"{wheel}[edge]")
    assert not installed(python) & {"tensorflow", "keras", "tf-keras", "transformers", "grpcio"}
    answer = subprocess.run(
        [str(python), "-c", _EDGE, str(edge_bundle)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.split() == ["ai-edge-litert", expected_label]
    command = [str(python.parent / "tensorseek"), "edge", "verify", str(edge_bundle)]
    verified = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "good" in verified.stdout
    refused = subprocess.run(
        [str(python.parent / "tensorseek"), "predict", "tiny", "text"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    assert "pip install 'tensorseek[gateway]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime stops at Python 3.11")
def test_the_old_runtime_answers_where_litert_is_missing(
    wheel: Path, tmp_path: Path, edge_bundle: Path, expected_label: str
) -> None:
    python = bare_environment(tmp_path / "venv", f"{wheel}[edge-tflite]")
    assert "ai-edge-litert" not in installed(python)
    answer = subprocess.run(
        [str(python), "-c", _EDGE, str(edge_bundle)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.split() == ["tflite-runtime", expected_label]


def test_gateway_installs_without_tensorflow_and_starts(wheel: Path, tmp_path: Path) -> None:
    python = bare_environment(tmp_path / "venv", f"{wheel}[gateway]")
    assert not installed(python) & {"tensorflow", "keras", "tf-keras", "transformers"}
    done = subprocess.run(
        [str(python), "-m", "tensorseek.cli", "serve", "gateway", "--models", "missing"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "missing" in done.stderr
