"""PyTorch, in an environment of its own: only the benchmarks that compare with it need it."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

from finetune.progress import Progress

_FOLDER = Path("build", "torch-venv")
_PINS = ("torch==2.13.0", "transformers==4.54.1", "accelerate==1.15.0", "numpy==2.4.6")
PYTHON = _FOLDER / "bin" / "python"


def install(progress: Progress) -> None:
    """Makes the environment, unless it is there as it should be."""
    done = _FOLDER / ".installed"
    pins = "\n".join(_PINS)
    if done.is_file() and done.read_text() == pins:
        return
    with progress.timed("install PyTorch", expected_s=120):
        venv.create(_FOLDER, with_pip=True, clear=True)
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *_PINS], check=True)
    done.write_text(pins)
