"""Answers texts with an edge bundle, in whatever environment: the job of `edge_old_runtime`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from bundle.errors import BundleError
from edge.errors import EdgeError
from edge.runner import EdgeRunner


def logits(runner: EdgeRunner, texts: Sequence[str]) -> list[list[float]]:
    """The model's answer to each text."""
    return [runner.logits(text).tolist() for text in texts]


def main() -> None:
    """Reads a list of texts as JSON, and prints the logits or why there are none."""
    try:
        runner = EdgeRunner.open(sys.argv[1])
    except (BundleError, EdgeError) as error:
        print(json.dumps({"error": str(error)}))
        return
    found = f"{runner.runtime.name} {runner.runtime.version}"
    print(json.dumps({"runtime": found, "logits": logits(runner, json.load(sys.stdin))}))


if __name__ == "__main__":
    main()
