"""A contender of `serving_peers`: BentoML, in an environment of its own.

Served by `bentoml serve`; `PEER` in the environment has the model's folder, threads, port, largest
batch, the longest time in milliseconds that its batching may aim at, and workers.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
from serving_peers_classifier import Classifier

FOLDER, THREADS, _, MAX_BATCH, LATENCY_MS, WORKERS = os.environ["PEER"].split()


@bentoml.service(workers=int(WORKERS), traffic={"timeout": 60, "max_concurrency": 256})
class Peer:
    """{"texts": […]} → [[…]], the calls of many callers in one batch."""

    def __init__(self) -> None:
        self._classifier = Classifier(Path(FOLDER), int(THREADS))

    @bentoml.api(batchable=True, max_batch_size=int(MAX_BATCH), max_latency_ms=int(LATENCY_MS))
    def classify(self, texts: list[str]) -> list[list[float]]:
        """Answers a batch."""
        return self._classifier(texts)
