"""Keeps what C++ libraries write to standard error out of the terminal.

TensorFlow 2.21 writes a dozen lines of start-up chatter there whatever its log level says, in
the middle of our progress bars.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_STDERR = 2


def redirect(path: Path) -> None:
    """Appends the native libraries' standard error to `path`; Python's own stays where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, _STDERR)
    os.close(log)
    sys.stderr = os.fdopen(terminal, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
