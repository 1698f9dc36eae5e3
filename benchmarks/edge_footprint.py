"""What a device needs to run the MiniLM bundle: memory, and time to the first answer.

command   make bench-edge-footprint   (trains the quickstart's model unless it is there)
machine   2 cores of an AMD EPYC, no GPU, LiteRT 2.3, otherwise idle
date      2026-11-25
result    start_s 0.26, rss_mb 141, file_mb 23.8; with six lengths instead of three rss_mb was 179

Each figure is of a new process, which imports `edge`, opens the dynamic_int8 bundle and answers
one text of each length; the median of several.

    start_s    seconds from before the import to the first answer
    rss_mb     resident memory after an answer of every length
    file_mb    the bundle
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import edge_models
from finetune.export import candidate, edge_bundle
from tensorseek.progress import TerminalProgress

_RUNS = 5
_JOB = """
import json, sys, time
started = time.perf_counter()
from edge.runner import EdgeRunner
runner = EdgeRunner.open(sys.argv[1])
runner.predict("a fine film")
start_s = time.perf_counter() - started
for signature, tensors in runner.examples().items():
    runner.run(signature, tensors)
status = open("/proc/self/status").read().split("VmRSS:")[1].split()[0]
print(json.dumps({"start_s": start_s, "rss_mb": int(status) * 1024 / 1e6}))
"""


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    repository, saved = edge_models.movies(progress)
    trained = candidate.of_version(saved, progress)
    bundle = edge_bundle.publish(repository, saved, trained, "dynamic_int8", progress)
    found = [_run(bundle) for _ in range(_RUNS)]
    figures = {name: statistics.median(each[name] for each in found) for name in found[0]}
    figures["file_mb"] = bundle.stat().st_size / 1e6
    rounded = {name: round(value, 2) for name, value in figures.items()}
    print(json.dumps({"benchmark": "edge_footprint", **rounded}))


def _run(bundle: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _JOB, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    main()
