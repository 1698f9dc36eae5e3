"""What the page shows of a text: each side's answer, or why it has none."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.errors import BundleError
from bundle.postprocess import LabelScore
from bundle.repository import ModelRepository
from edge.errors import EdgeError
from edge.runner import EdgeRunner
from serving.client import Client
from serving.errors import BackendUnavailable, ServingError


@dataclass(frozen=True)
class Answer:
    """One side's answer: scores by label, empty when `note` is an error."""

    note: str
    scores: dict[str, float] = field(default_factory=dict)


class Cloud:
    """Answers through the gateway."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = Client(address, timeout_s=10)

    def answer(self, model: str, text: str) -> Answer:
        """The gateway's answer, with the time of the whole round trip."""
        start = time.perf_counter()
        try:
            prediction = self._client.predict(model, [text])
            (labels,) = prediction.labels
        except BackendUnavailable:
            return Answer(f"⚠️ The cloud ({self._address}) is away; it may be back in a moment.")
        except ServingError as error:
            return Answer(f"⚠️ {error}")
        return Answer(_note(prediction.version, start, "gateway"), _scores(labels))


class Edge:
    """Answers with the edge bundle of the served version, on this machine."""

    def __init__(self, models: Path) -> None:
        self._repository = ModelRepository(models)
        self._lock = threading.Lock()  # an interpreter serves one thread at a time
        self._loaded: tuple[Path, EdgeRunner] | None = None

    def answer(self, model: str, text: str) -> Answer:
        """The bundle's answer, without the time of loading it."""
        try:
            with self._lock:
                runner = self._runner(model)
                start = time.perf_counter()
                labels = runner.predict(text)
        except (BundleError, EdgeError) as error:
            return Answer(f"⚠️ {error}")
        profile = runner.manifest.edge.profile if runner.manifest.edge else "edge"
        return Answer(_note(runner.manifest.version, start, profile), _scores(labels))

    def _runner(self, model: str) -> EdgeRunner:
        bundles = self._repository.edge_bundles(model, self._repository.serving(model))
        if not bundles:
            raise EdgeError(f"{model} has no edge bundle; make one with: tensorseek train")
        path = bundles[0]
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = (path, EdgeRunner.open(path))
        return self._loaded[1]


def _note(version: int, start: float, where: str) -> str:
    return f"version {version} · {where} · {1e3 * (time.perf_counter() - start):.1f} ms"


def _scores(labels: Sequence[LabelScore]) -> dict[str, float]:
    return {item.label: item.score for item in labels}
