"""Law: a device needs little memory and time before the first answer.

How much of each the MiniLM bundle takes is measured by `benchmarks.edge_footprint`; what the
program takes whatever the model is, is tested here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Of 150 MB: MiniLM's file takes 24, each of its three lengths 11 of packed weights, its work 11.
MOST_MB = 150 - 24 - 3 * 11 - 11
MOST_S = 1.0

JOB = """
import json, sys, time
from edge.runner import EdgeRunner
EdgeRunner.open(sys.argv[1]).predict("a fine film")
status = open("/proc/self/status").read().split("VmRSS:")[1].split()[0]
print(json.dumps({"cpu_s": time.process_time(), "rss_mb": int(status) * 1024 / 1e6}))
"""


def test_the_first_answer_comes_soon_and_in_little_memory(bundle: Path) -> None:
    """In processor time, since other tests may keep the machine busy."""
    command = [sys.executable, "-c", JOB, str(bundle)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["cpu_s"] < MOST_S
    assert found["rss_mb"] < MOST_MB
