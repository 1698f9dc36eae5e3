"""Whether the whole stack starts, answers and stops within a minute.

command   make up-check      (needs a model: make quickstart)

    ready_s      from nothing to backend, gateway and demo that answer
    answered_s   for one prediction of each published classifier, through the gateway
    stopped_s    from SIGTERM to the end of the last process
    total_s      at most 60
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bundle.repository import ModelRepository
from serving.client import Client
from tensorseek import stack

_MOST_S = 60.0
_LINES = 3  # that `tensorseek up` prints once all is ready


def main() -> None:
    """Starts, asks and stops the stack, and prints one JSON line."""
    models = Path("models")
    names = [
        name
        for name in ModelRepository(models).names()
        if ModelRepository(models).load(name, verify=False).manifest.task == "text-classification"
    ]
    if not names:
        sys.exit(f"benchmarks.up_check: {models} has no text classifier; make one: make quickstart")
    figures = _run(models, names)
    print(json.dumps({"benchmark": "up_check", **{k: round(v, 2) for k, v in figures.items()}}))
    if figures["total_s"] > _MOST_S:
        sys.exit(
            f"benchmarks.up_check: took {figures['total_s']:.0f} s, the limit is {_MOST_S:.0f}"
        )


def _run(models: Path, names: list[str]) -> dict[str, float]:
    ports = stack.free_ports()
    command = [sys.executable, "-m", "tensorseek.cli", "up", "--models", str(models)]
    for name, port in vars(ports).items():
        command += [f"--{name}-port", str(port)]
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as logs,
        subprocess.Popen([*command, "--logs", logs], stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for _ in range(_LINES):
                if not process.stdout.readline():
                    sys.exit("benchmarks.up_check: the stack did not start; see runs/logs")
            ready = time.monotonic()
            with Client(f"{stack.HOST}:{ports.gateway}") as client:
                for name in names:
                    client.predict(name, ["does it answer?"])
            answered = time.monotonic()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_MOST_S)
    ended = time.monotonic()
    return {
        "ready_s": ready - began,
        "answered_s": answered - ready,
        "stopped_s": ended - answered,
        "total_s": ended - began,
    }


if __name__ == "__main__":
    main()
