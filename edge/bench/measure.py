"""One bundle's times and memory: `python -m edge.bench.measure` prints them as JSON.

In a process of its own, since memory that one model took stays with the process, and a second one
would be loaded while the first one's pages are warm.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge.errors import EdgeError
from edge.runner import EdgeRunner

WARM_UP = 10  # runs that are not counted
_TIMEOUT_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Of one signature with so many threads, one example a run; milliseconds."""

    signature: str
    threads: int
    runs: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A bundle on this device."""

    path: str
    model: str
    version: int
    profile: str
    runtime: str
    file_bytes: int
    load_ms: float  # open, verify, load, golden inputs
    peak_rss_bytes: int  # of the whole process, after all runs
    operators: int  # of the first signature
    delegated_parts: int  # that the CPU delegate took over; 0: none, 1: the graph in one piece
    accuracy: float | None  # on the test split, when it was published
    timings: tuple[Timing, ...]


def measure(path: Path, threads: Sequence[int], runs: int) -> Measured:
    """Measures the bundle at `path` in a new process.

    Args:
        runs: of each signature and number of threads, at least 50.

    Raises:
        EdgeError: the bundle does not run here; with the reason.
    """
    job = json.dumps({"path": str(path), "threads": list(threads), "runs": runs})
    command = [sys.executable, "-m", __name__, job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise EdgeError(lines[-1] if lines else f"{path}: the runtime crashed ({done.returncode})")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)


def main() -> None:
    """Measures here and now, and prints the figures."""
    job = json.loads(sys.argv[1])
    try:
        found = _measure(Path(job["path"]), job["threads"], job["runs"])
    except Exception as error:  # noqa: BLE001 (the caller has only our last line)
        sys.exit(" ".join(str(error).split()))
    print(json.dumps(asdict(found)))


def _measure(path: Path, threads: Sequence[int], runs: int) -> Measured:
    started = time.perf_counter()
    runner = EdgeRunner.open(path, threads[0])
    load_s = time.perf_counter() - started
    timings = _time(runner, threads[0], runs)
    for count in threads[1:]:
        timings += _time(EdgeRunner.open(path, count), count, runs)
    manifest, edge = runner.manifest, runner.edge
    return Measured(
        path=str(path),
        model=manifest.name,
        version=manifest.version,
        profile=edge.profile,
        runtime=f"{runner.runtime.name} {runner.runtime.version}",
        file_bytes=_size(path),
        load_ms=load_s * 1e3,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        operators=sum(edge.ops.values()) // len(manifest.signatures),
        delegated_parts=runner.delegated_parts,
        accuracy=edge.evaluation.get("accuracy"),
        timings=tuple(timings),
    )


def _time(runner: EdgeRunner, threads: int, runs: int) -> list[Timing]:
    found = []
    for signature, tensors in runner.examples().items():
        took: list[float] = []
        for turn in range(WARM_UP + runs):
            before = time.perf_counter()
            runner.run(signature, tensors)
            if turn >= WARM_UP:
                took.append((time.perf_counter() - before) * 1e3)
        cuts = statistics.quantiles(took, n=20, method="inclusive")
        found.append(
            Timing(signature=signature, threads=threads, runs=runs, p50_ms=cuts[9], p95_ms=cuts[18])
        )
    return found


def _size(path: Path) -> int:
    files: list[Any] = [path] if path.is_file() else list(path.iterdir())
    return sum(file.stat().st_size for file in files)


if __name__ == "__main__":
    main()
