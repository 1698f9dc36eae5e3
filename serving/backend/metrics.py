"""What TensorFlow Serving counts, under its own names, for Prometheus.

    :tensorflow:serving:request_count{model_name, status}
    :tensorflow:serving:request_latency{model_name, API, entrypoint}      microseconds

Labels come from a bounded set: a name that a caller made up is counted as "".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from serving.errors import status_of

_PREFIX = ":tensorflow:serving:"
_BUCKETS_US = [10 * 1.8**power for power in range(33)]


class Metrics:
    """One backend's registry and what is in it.

    Args:
        is_model: whether a name is one of a model.
    """

    def __init__(self, is_model: Callable[[str], bool]) -> None:
        self._is_model = is_model
        self._registry = CollectorRegistry()
        self._count = Counter(
            f"{_PREFIX}request_count",
            "The total number of requests.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            f"{_PREFIX}request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ["model_name", "API", "entrypoint"],
            buckets=_BUCKETS_US,
            registry=self._registry,
        )

    @contextlib.contextmanager
    def measured(self, model: str, method: str, entrypoint: str) -> Iterator[None]:
        """Counts the request that is answered in the `with` block, and how it ended.

        Args:
            method: such as `Predict`.
            entrypoint: GRPC or REST.
        """
        begin_s = time.perf_counter()
        status = "OK"
        try:
            yield
        except Exception as error:
            status = status_of(error)[0].name
            raise
        finally:
            name = model if self._is_model(model) else ""
            self._count.labels(name, status).inc()
            spent_us = 1e6 * (time.perf_counter() - begin_s)
            self._latency.labels(name, method, entrypoint).observe(spent_us)

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        # The library ends a counter's name with _total; TensorFlow Serving does not.
        name = f"{_PREFIX}request_count"
        return generate_latest(self._registry).replace(f"{name}_total".encode(), name.encode())
