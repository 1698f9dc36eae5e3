"""What the gateway counts, for Prometheus.

Labels come from a bounded set: a name that a caller made up never becomes one.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from serving.gateway.generator import Usage
from serving.gateway.predictor import Answer

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The gateway's own registry and everything in it.

    Args:
        in_flight: how many calls are being answered, asked at each scrape.
    """

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "tensorseek_requests",
            "Calls that ended, by model ('' for none or an unknown one), version, method and code.",
            ["model", "version", "method", "code"],
            registry=self.registry,
        )
        self._total = self._seconds("total", "Whole calls, as the gateway sees them.", "method")
        self._preprocess = self._seconds("preprocess", "Turning inputs into tensors.")
        self._backend = self._seconds("backend", "Waiting for the backend.")
        self._rows = Histogram(
            "tensorseek_batch_rows",
            "Inputs in one call to the backend.",
            ["model"],
            buckets=_ROWS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "tensorseek_tokens",
            "Tokens of texts that came to their end, read and written.",
            ["model", "kind"],
            registry=self.registry,
        )
        self._first_token = self._seconds("first_token", "Until a text's first token was there.")
        self._models = Gauge(
            "tensorseek_models_available", "Models that can be asked.", registry=self.registry
        )
        gauge = Gauge("tensorseek_in_flight", "Calls being answered.", registry=self.registry)
        gauge.set_function(in_flight)

    def ended(self, *, method: str, code: str, model: str, version: int, total_s: float) -> None:
        """Counts one call; `model` and `version` only if they exist."""
        self._requests.labels(model, str(version or ""), method, code).inc()
        self._total.labels(model, method).observe(total_s)

    def answered(self, model: str, answer: Answer) -> None:
        """Records where the time of a prediction went."""
        self._preprocess.labels(model).observe(answer.preprocess_s)
        self._backend.labels(model).observe(answer.backend_s)
        for rows in answer.batches:
            self._rows.labels(model).observe(rows)

    def written(self, model: str, usage: Usage) -> None:
        """Records a text that came to its end."""
        self._tokens.labels(model, "read").inc(usage.prompt_tokens)
        self._tokens.labels(model, "written").inc(usage.new_tokens)
        self._first_token.labels(model).observe(usage.first_token_s)

    def available(self, models: int) -> None:
        """Says how many models can be asked."""
        self._models.set(models)

    def _seconds(self, what: str, text: str, *labels: str) -> Histogram:
        name = f"tensorseek_{what}_seconds"
        names = ["model", *labels]
        return Histogram(name, text, names, buckets=_SECONDS, registry=self.registry)
