"""How many backends a load needs: batching measured on this machine, queues simulated.

command   make bench-capacity      (needs models/movie-sentiment: make quickstart)

    requests ─► one queue ─► the first free backend takes up to 32 at once ─► fixed + each · n ms

The time of a batch is measured at several sizes and fitted by a line. Arrivals are Poisson's; each
load is simulated with ever more backends until 99 of 100 requests end within the target.

    fixed_ms, each_ms       the line: a batch of n takes fixed_ms + n * each_ms
    load_*                  of 10, 100, 1,000 and 10,000 requests a second: `backends` of two cores,
                            p50_ms and p99_ms, mean size of a batch, how busy the backends are
    core_hours_a_million    core hours for a million requests, at the largest load

What it leaves out: network, the gateway's own time (benchmarks/gateway_overhead.py), failures. The
p99 of a real stack is higher; keep a third of the backends as a reserve.
"""

from __future__ import annotations

import heapq
import json
import random
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.repository import ModelRepository

_MODEL, _TOKENS = "movie-sentiment", 32
_SIZES = (1, 2, 4, 8, 16, 32)
_REPEATS = 15
_LOADS = (10, 100, 1_000, 10_000)  # requests a second
_TARGET_MS = 100.0
_MOST = 32  # of a batch
_REQUESTS, _SECONDS = 20_000, 20  # of a simulation, at least
_CORES = 2  # of a backend, here


@dataclass(frozen=True)
class Service:
    """How long a backend takes for a batch."""

    fixed_ms: float
    each_ms: float

    def ms(self, size: int) -> float:
        """Of a batch of this size."""
        return self.fixed_ms + size * self.each_ms


@dataclass(frozen=True)
class Outcome:
    """What a simulation came to."""

    p50_ms: float
    p99_ms: float
    batch: float  # mean size
    busy: float  # share of the time, 0 to 1


def main() -> None:
    """Measures and simulates, and prints one JSON line."""
    service = fit(measure(Path("models")))
    figures: dict[str, object] = {
        "fixed_ms": round(service.fixed_ms, 3),
        "each_ms": round(service.each_ms, 3),
    }
    for load in _LOADS:
        backends, found = needed(load, service)
        figures[f"load_{load}"] = {
            "backends": backends,
            **{name: round(value, 3) for name, value in vars(found).items()},
        }
        per_million = backends * _CORES * 1e6 / load / 3600
        figures["core_hours_a_million"] = round(per_million, 2)
    print(json.dumps({"benchmark": "capacity", **figures}))


def measure(models: Path) -> dict[int, float]:
    """Median milliseconds of a batch by its size, of texts of 32 tokens."""
    import tensorflow as tf  # noqa: PLC0415 (after the argument is known to be of use)

    if _MODEL not in ModelRepository(models).names():
        sys.exit(f"benchmarks.capacity: {models / _MODEL} is not there; make it: make quickstart")
    saved = ModelRepository(models).load(_MODEL)
    forward = tf.saved_model.load(str(saved.path)).signatures["serving_default"]
    found = {}
    for size in _SIZES:
        ids = tf.ones([size, _TOKENS], tf.int32)
        taken = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            forward(input_ids=ids, attention_mask=ids)["logits"].numpy()
            taken.append(1e3 * (time.perf_counter() - start))
        found[size] = statistics.median(taken)
    return found


def fit(measured: dict[int, float]) -> Service:
    """The line through the medians, by least squares of the relative error."""
    sizes = np.asarray(list(measured), np.float64)
    times = np.asarray(list(measured.values()))
    columns = np.stack([1 / times, sizes / times], axis=1)
    (fixed, each), *_ = np.linalg.lstsq(columns, np.ones(len(sizes)), rcond=None)
    return Service(max(float(fixed), 0.0), float(each))


def needed(load: float, service: Service) -> tuple[int, Outcome]:
    """The fewest backends that keep the target at a load, and what they do then."""
    fewest = max(1, int(load * service.ms(_MOST) / _MOST / 1e3))  # below that queues only grow
    most = fewest
    while simulate(load, most, service).p99_ms > _TARGET_MS:
        fewest, most = most + 1, most * 2
    while fewest < most:
        middle = (fewest + most) // 2
        if simulate(load, middle, service).p99_ms > _TARGET_MS:
            fewest = middle + 1
        else:
            most = middle
    return most, simulate(load, most, service)


def simulate(load: float, backends: int, service: Service, seed: int = 0) -> Outcome:
    """Requests that arrive as they like, at `load` a second, at so many backends.

    Source:
        Kleinrock: Queueing Systems, volume 1 (1975), section 4.5, bulk service; no closed form is
        known for the tail with several servers, so it is simulated.
    """
    generator = random.Random(seed)  # noqa: S311 (no secret)
    free = [0.0] * backends  # when each is free next, ms
    waiting: deque[float] = deque()
    arrival, taken, sizes, work = 0.0, [], [], 0.0
    arrivals = iter(_arrivals(generator, load))
    upcoming = next(arrivals, None)
    while waiting or upcoming is not None:
        start = heapq.heappop(free)
        if not waiting and upcoming is not None:
            start = max(start, upcoming)
        while upcoming is not None and upcoming <= start:
            waiting.append(upcoming)
            arrival, upcoming = upcoming, next(arrivals, None)
        batch = [waiting.popleft() for _ in range(min(_MOST, len(waiting)))]
        spent = service.ms(len(batch))
        heapq.heappush(free, start + spent)
        taken += [start + spent - came for came in batch]
        sizes.append(len(batch))
        work += spent
    p50, p99 = np.percentile(taken, [50, 99])
    return Outcome(float(p50), float(p99), statistics.mean(sizes), work / arrival / backends)


def _arrivals(generator: random.Random, load: float) -> list[float]:
    """Milliseconds at which requests come."""
    now, found = 0.0, []
    for _ in range(max(_REQUESTS, int(load * _SECONDS))):
        now += generator.expovariate(load / 1e3)
        found.append(now)
    return found


if __name__ == "__main__":
    main()
