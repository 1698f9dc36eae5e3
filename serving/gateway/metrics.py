"""What the gateway counts, for Prometheus.

Labels come from a bounded set: a name that a caller made up never becomes one. With several
workers each writes into files of one folder, and whoever is asked adds them up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from serving.gateway.generator import Usage
from serving.gateway.predictor import Answer
from serving.gateway.types import ModelKey

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The gateway's own registry and everything in it.

    Args:
        folder: where several workers write theirs; None for one alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._registry = CollectorRegistry()
        self._shown = CollectorRegistry() if folder else self._registry
        if folder:
            MultiProcessCollector(self._shown, str(folder))  # type: ignore[no-untyped-call]
            self._shown.register(_Processes(folder))
        else:
            ProcessCollector(registry=self._registry)
        self._requests = self._counter(
            "requests",
            "Calls that ended, by model ('' for none or an unknown one), version, method and code.",
            "model",
            "version",
            "method",
            "code",
        )
        self._total = self._seconds(
            "total", "Whole calls, as the gateway sees them.", "version", "method"
        )
        self._queue = self._seconds("queue", "Waiting for a busy backend, if a call had to.")
        self._preprocess = self._seconds("preprocess", "Turning inputs into tensors.")
        self._backend = self._seconds("backend", "Waiting for the backend and for others' calls.")
        self._rows = Histogram(
            "tensorseek_batch_rows",
            "Inputs in one call to the backend.",
            ["model"],
            buckets=_ROWS,
            registry=self._registry,
        )
        self._labels = self._counter(
            "labels", "Inputs by the label that was most probable.", "model", "version", "label"
        )
        self._tokens = self._counter(
            "tokens", "Tokens of texts that came to their end, read and written.", "model", "kind"
        )
        self._first_token = self._seconds("first_token", "Until a text's first token was there.")
        self._failovers = self._counter(
            "failovers", "Calls that this backend failed and another was asked.", "backend"
        )
        self._dropped = self._counter("request_log_dropped", "Lines the disk did not take in time.")
        self._models = self._gauge("models_available", "Models that can be asked.", "livemin")
        self._withheld = self._gauge(
            "version_withheld",
            "1 for a version that does not give its golden answers, and so gets no calls.",
            "livemax",
            "model",
            "version",
        )
        self._refused = self._gauge(
            "config_refused", "1 while the configuration file is not valid.", "livemax"
        )
        self._in_flight = self._gauge("in_flight", "Calls being answered.", "livesum")
        self._children: dict[tuple[str, int, str, str], tuple[Any, Any]] = {}
        self._were_withheld: set[ModelKey] = set()

    def render(self, in_flight: int) -> bytes:
        """Everything, as Prometheus reads it.

        Args:
            in_flight: calls being answered by this worker.
        """
        self._in_flight.set(in_flight)
        return generate_latest(self._shown)

    def ended(self, *, method: str, code: str, model: str, version: int, total_s: float) -> None:
        """Counts one call; `model` and `version` only if they exist."""
        key = (model, version, method, code)
        children = self._children.get(key)
        if children is None:
            name = str(version or "")
            children = self._children[key] = (
                self._requests.labels(model, name, method, code),
                self._total.labels(model, name, method),
            )
        children[0].inc()
        children[1].observe(total_s)

    def batched(self, model: str, rows: int, waited_s: Sequence[float]) -> None:
        """Records one call to the backend, and how long each that is part of it waited."""
        self._rows.labels(model).observe(rows)
        queue = self._queue.labels(model)
        for seconds in waited_s:
            queue.observe(seconds)

    def answered(self, model: str, answer: Answer) -> None:
        """Records where the time of a prediction went, and what came out."""
        self._preprocess.labels(model).observe(answer.preprocess_s)
        self._backend.labels(model).observe(answer.backend_s)
        version = str(answer.version)
        for label in answer.best:
            self._labels.labels(model, version, label).inc()

    def written(self, model: str, usage: Usage) -> None:
        """Records a text that came to its end."""
        self._tokens.labels(model, "read").inc(usage.prompt_tokens)
        self._tokens.labels(model, "written").inc(usage.new_tokens)
        self._first_token.labels(model).observe(usage.first_token_s)

    def failed_over(self, address: str) -> None:
        """Counts a call that was asked again elsewhere."""
        self._failovers.labels(address).inc()

    def dropped(self) -> None:
        """Counts a line of the request log that was not written."""
        self._dropped.inc()

    def looked(self, in_flight: int, models: int, withheld: Mapping[ModelKey, str]) -> None:
        """Says how many models can be asked, and which versions must not be."""
        self._in_flight.set(in_flight)
        self._models.set(models)
        for gone in self._were_withheld - withheld.keys():
            self._withheld.labels(gone.name, str(gone.version)).set(0)
        self._were_withheld = set(withheld)
        for key in withheld:
            self._withheld.labels(key.name, str(key.version)).set(1)

    def configured(self, *, refused: bool) -> None:
        """Says whether the configuration file could be taken."""
        self._refused.set(refused)

    def _counter(self, what: str, text: str, *labels: str) -> Counter:
        return Counter(f"tensorseek_{what}", text, labels, registry=self._registry)

    def _gauge(self, what: str, text: str, mode: Any, *labels: str) -> Gauge:
        name = f"tensorseek_{what}"
        return Gauge(name, text, labels, registry=self._registry, multiprocess_mode=mode)

    def _seconds(self, what: str, text: str, *labels: str) -> Histogram:
        name = f"tensorseek_{what}_seconds"
        names = ["model", *labels]
        return Histogram(name, text, names, buckets=_SECONDS, registry=self._registry)


class _Processes(Collector):
    """CPU and memory of all workers together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        pids = {int(path.stem.rpartition("_")[2]) for path in self._folder.glob("*.db")}
        merged: dict[str, Metric] = {}
        for pid in pids:
            for metric in filter(_adds_up, _of_process(pid)):
                known = merged.setdefault(metric.name, metric)
                if known is not metric:
                    known.samples = [
                        one._replace(value=one.value + other.value)
                        for one, other in zip(known.samples, metric.samples, strict=True)
                    ]
        yield from merged.values()


def _of_process(pid: int) -> Iterable[Metric]:
    return ProcessCollector(pid=lambda: pid, registry=CollectorRegistry()).collect()


def _adds_up(metric: Metric) -> bool:
    return metric.name in {
        "process_cpu_seconds",
        "process_open_fds",
        "process_resident_memory_bytes",
    }
