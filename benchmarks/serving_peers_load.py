"""The load that `serving_peers` puts on each contender: so many callers, each asks without a pause.

texts ─► caller 1 ─► ask ─► label, checked     one event loop, one connection a caller (HTTP)
      ─► caller 2 ─► ask ─► …                  or one for all (gRPC), requests encoded before
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from protos import inference_pb2

Ask = Callable[[int], Awaitable[int]]  # place of a text → place of its most probable label

_PREDICT = "/tensorseek.v1.Inference/Predict"
_TIMEOUT_S = 60


@dataclass
class Measured:
    """What calls came to.

    Args:
        wall_s: how long they went on.
        cpu_s: time of processors that servers and callers took meanwhile.
        taken_s: of each call that was answered.
        wrong: answers that were not the expected label.
        refused: calls that got none, as the server had too much to do.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    taken_s: list[float] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0

    @property
    def calls_per_s(self) -> float:
        """Calls that were answered, a second."""
        return len(self.taken_s) / self.wall_s

    def percentile_ms(self, share: int) -> float:
        """Milliseconds that `share` of 100 answered calls stayed under."""
        return 1e3 * statistics.quantiles(self.taken_s, n=100, method="inclusive")[share - 1]

    def add(self, other: Measured) -> None:
        """Takes in those of another round."""
        self.wall_s += other.wall_s
        self.cpu_s += other.cpu_s
        self.taken_s += other.taken_s
        self.wrong += other.wrong
        self.refused += other.refused


async def load(ask: Ask, labels: Sequence[int], callers: int, seconds: float) -> Measured:
    """Has so many callers ask for so long.

    Args:
        labels: the right one of each text.
    """
    found = Measured()
    places = itertools.cycle(range(len(labels)))
    cpu_began, began = _cpu_s(), time.perf_counter()

    async def call() -> None:
        while time.perf_counter() - began < seconds:
            place = next(places)
            start = time.perf_counter()
            try:
                found.wrong += await ask(place) != labels[place]
            except aiohttp.ClientResponseError:
                found.refused += 1
            else:
                found.taken_s.append(time.perf_counter() - start)

    await asyncio.gather(*(call() for _ in range(callers)))
    found.wall_s = time.perf_counter() - began
    found.cpu_s = _cpu_s() - cpu_began
    return found


def _cpu_s() -> float:
    """What this process and all that it started have taken of the processors so far."""
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            words = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            parents[pid], ticks[pid] = int(words[1]), int(words[11]) + int(words[12])
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks[pid] for pid in own) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def http(
    url: str, texts: Sequence[str], body: Callable[[str], Any], scores: Callable[[Any], Any]
) -> AsyncIterator[Ask]:
    """Asks over HTTP with JSON.

    Args:
        body: of a text's request.
        scores: of an answer, one for each label.
    """
    bodies = [json.dumps(body(text)).encode() for text in texts]
    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout
    ) as session:

        async def ask(place: int) -> int:
            async with session.post(url, data=bodies[place]) as response:
                response.raise_for_status()
                found = scores(json.loads(await response.read()))
            return max(range(len(found)), key=found.__getitem__)

        yield ask


@asynccontextmanager
async def gateway(
    address: str, model: str, texts: Sequence[str], labels: Sequence[str]
) -> AsyncIterator[Ask]:
    """Asks our gateway over gRPC.

    Args:
        labels: their names, in the order of their places.
    """
    requests = [
        inference_pb2.PredictRequest(model=model, inputs=[{"text": text}]).SerializeToString()
        for text in texts
    ]
    places = {name: place for place, name in enumerate(labels)}
    async with grpc.aio.insecure_channel(address) as channel:
        predict = channel.unary_unary(_PREDICT, None, inference_pb2.PredictResponse.FromString)

        async def ask(place: int) -> int:
            response = await predict(requests[place], timeout=_TIMEOUT_S)
            return places[response.results[0].labels.labels[0].label]

        yield ask
