"""What the page shows of an input: each side's answer, or why it has none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundle.errors import BundleError
from bundle.postprocess import LabelScore
from bundle.preprocess import Raw
from bundle.repository import ModelRepository
from edge.errors import EdgeError
from edge.runner import EdgeRunner
from serving.client import Client
from serving.errors import BackendUnavailable, ServingError
from serving.generation import Generation, Sampling

_TIMEOUT_S = 10
_BATCH = 32  # inputs of a file in one call
_WRITING_S = 300


@dataclass(frozen=True)
class Answer:
    """One side's answer: scores by label, empty when `note` is an error."""

    note: str
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> str | None:
        """The most probable label, if there is an answer."""
        return max(self.scores, key=self.scores.__getitem__) if self.scores else None


class Cloud:
    """Answers through the gateway."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = Client(address, timeout_s=_TIMEOUT_S)
        self._writer = Client(address, timeout_s=_WRITING_S)

    def trouble(self) -> str | None:
        """What is away at the moment, as a sentence; None when all is there."""
        try:
            missing = [model.name for model in self._client.models() if not model.serving_version]
        except BackendUnavailable:
            return f"⚠️ The cloud ({self._address}) is away; the page goes on when it is back."
        except ServingError as error:
            return f"⚠️ {error}"
        if missing:
            return f"⚠️ The backend does not serve {', '.join(missing)} at the moment."
        return None

    def answer(self, model: str, raw: Raw, version: int = 0) -> Answer:
        """The gateway's answer, with the time of the whole round trip."""
        start = time.perf_counter()
        try:
            prediction = self._client.predict(model, [raw], version)
            (labels,) = prediction.labels
        except BackendUnavailable:
            return self._away()
        except ServingError as error:
            return Answer(f"⚠️ {error}")
        return Answer(_note(prediction.version, start, "gateway"), _scores(labels))

    def answers(self, model: str, raws: Sequence[Raw]) -> Iterator[Answer]:
        """The gateway's answers in order, many inputs a call; the time is that of the call."""
        for first in range(0, len(raws), _BATCH):
            part, start = raws[first : first + _BATCH], time.perf_counter()
            try:
                prediction = self._client.predict(model, part)
            except BackendUnavailable:
                yield from [self._away()] * len(part)
                continue
            except ServingError:  # one of them, or all: each has its own answer
                yield from (self.answer(model, raw) for raw in part)
                continue
            note = _note(prediction.version, start, "gateway")
            for raw, result in zip(part, prediction.results, strict=True):
                if isinstance(result, Sequence):
                    yield Answer(note, _scores(result))
                else:
                    yield self.answer(model, raw)  # which says what is wrong with it

    def write(self, model: str, prompt: str, *, most: int, sampling: Sampling) -> Generation:
        """A text that the gateway's language model writes on from a prompt.

        Raises:
            ServingError: also while it is iterated over.
        """
        return self._writer.generate(model, prompt, max_new_tokens=most, sampling=sampling)

    def _away(self) -> Answer:
        return Answer(f"⚠️ The cloud ({self._address}) is away; it may be back in a moment.")


class Edge:
    """Answers with edge bundles, on this machine."""

    def __init__(self, models: Path) -> None:
        self._repository = ModelRepository(models)
        self._lock = threading.Lock()  # an interpreter serves one thread at a time
        self._loaded: dict[Path, EdgeRunner] = {}

    def answer(self, model: str, raw: Raw, version: int = 0) -> Answer:
        """The bundle's answer, without the time of loading it.

        Args:
            version: 0 for the served one.
        """
        try:
            with self._lock:
                runner = self._runner(model, version)
                start = time.perf_counter()
                labels = runner.predict(raw)
        except (BundleError, EdgeError) as error:
            return Answer(f"⚠️ {error}")
        profile = runner.manifest.edge.profile if runner.manifest.edge else "edge"
        return Answer(_note(runner.manifest.version, start, profile), _scores(labels))

    def _runner(self, model: str, version: int) -> EdgeRunner:
        version = version or self._repository.serving(model)
        bundles = self._repository.edge_bundles(model, version)
        if not bundles:
            raise EdgeError(
                f"{model} version {version} has no edge bundle; make one with: tensorseek train"
            )
        path = bundles[0]
        if path not in self._loaded:
            while len(self._loaded) > 1:  # two versions are compared, never more
                del self._loaded[next(iter(self._loaded))]
            self._loaded[path] = EdgeRunner.open(path)
        return self._loaded[path]


def _note(version: int, start: float, where: str) -> str:
    return f"version {version} · {where} · {1e3 * (time.perf_counter() - start):.1f} ms"


def _scores(labels: Sequence[LabelScore]) -> dict[str, float]:
    return {item.label: item.score for item in labels}
