"""Text classification as a service: ours against LitServe, BentoML and Triton on the same weights.

command   make bench-serving-peers      (trains the quickstart's model unless it is there, and
                                        fetches PyTorch and the peers on its first run)
machine   2 cores of an AMD EPYC with AVX-512, no GPU; callers and servers share them
date      2026-11-28, idle machine
result    ratio_best_peer_32 1.71, p99_ratio_best_peer_32 0.76, cpu_ratio_32 1.74, wrong 0; calls a
          second and p99 with 32 callers: ours 208 and 261 ms, LitServe 122 and 344, BentoML 119 and
          574, Triton 94 and 486. Three days before: 1.49 and 0.83, the best of them Triton with 132

The quickstart's MiniLM in float32 and the sentences of its test split, of 4 to 64 tokens, unsorted.
Ours is `tensorseek serve backend` and `tensorseek serve gateway` with the settings they have by
themselves. Each peer runs the same weights in transformers' PyTorch, its own batching on, a batch
padded to its longest, with the settings of `serving_peers_systems`, of those tried the best. All
compute with two threads. One load generator asks all of them, ours over gRPC and the others over
HTTP; each answer is compared with the trained model's own label. In each round every system is
started, warmed up, asked by more and more callers and stopped, one after the other: none is there
while another is measured, and a drift of the machine meets all alike.

    ratio_best_peer_32      our calls a second over the best peer's, 32 callers
    p99_ratio_best_peer_32  99th percentile of our times over that peer's, 32 callers
    cpu_ratio_32            the least processor time that a peer takes for a call over ours, of
                            servers and callers; other work on the machine hardly changes it
    wrong                   answers that were not the trained model's label, of all systems
    refused                 calls that a system was too busy to answer; they count for nothing
    <system>                by callers: calls a second, milliseconds, of processors too; or why it
                            is absent
"""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import uvloop

from benchmarks import serving_peers_load
from benchmarks.serving_peers_load import Ask, Measured
from benchmarks.serving_peers_systems import (
    FOLDER,
    LABELS,
    MODEL,
    PEERS,
    Peer,
    ours,
    sentences,
)
from finetune.progress import Progress
from tensorseek import stack
from tensorseek.progress import TerminalProgress

_OURS = "ours"
_CALLERS = (1, 8, 32, 64)
_COMPARED = 32
_ROUNDS, _ROUND_S, _WARM_UP_S = 3, 5.0, 2.0
_READY_S = 120

Times = dict[str, dict[int, Measured]]
Running = Callable[[Sequence[str]], AbstractAsyncContextManager[Ask]]  # texts → who answers them


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    texts, labels = sentences()
    absent: dict[str, Any] = {}
    systems: dict[str, Running] = {_OURS: _ours}
    for peer in PEERS:
        if _installed(peer, absent, progress):
            systems[peer.name] = functools.partial(_peer, peer)
    times = uvloop.run(_measure(systems, texts, labels, absent, progress))
    print(json.dumps({"benchmark": "serving_peers", **_figures(times), **absent}))


def _installed(peer: Peer, absent: dict[str, Any], progress: Progress) -> bool:
    try:
        peer.install(progress)
    except subprocess.CalledProcessError as error:
        absent[peer.name] = {"absent": (error.stderr or str(error)).strip().splitlines()[-1]}
    return peer.name not in absent


async def _measure(
    systems: Mapping[str, Running],
    texts: Sequence[str],
    labels: Sequence[int],
    absent: dict[str, Any],
    progress: Progress,
) -> Times:
    times: Times = {name: {callers: Measured() for callers in _CALLERS} for name in systems}
    with progress.counted("ask", _ROUNDS * len(systems)) as advance:
        for _ in range(_ROUNDS):
            for name in list(times):
                try:
                    async with systems[name](texts) as ask:
                        await _turn(ask, labels, times[name])
                except TimeoutError as error:
                    absent[name] = {"absent": str(error)}
                    del times[name]
                advance()
    return times


async def _turn(ask: Ask, labels: Sequence[int], times: Mapping[int, Measured]) -> None:
    """One system's part of a round; the first seconds at each load warm up."""
    for callers, found in times.items():
        await serving_peers_load.load(ask, labels, callers, _WARM_UP_S)
        found.add(await serving_peers_load.load(ask, labels, callers, _ROUND_S))


@asynccontextmanager
async def _ours(texts: Sequence[str]) -> AsyncIterator[Ask]:
    with ours() as address:
        async with serving_peers_load.gateway(address, MODEL, texts, LABELS) as ask:
            yield ask


@asynccontextmanager
async def _peer(peer: Peer, texts: Sequence[str]) -> AsyncIterator[Ask]:
    port = stack.free_ports().http
    url = f"http://{stack.HOST}:{port}{peer.path}"
    with peer.running(port):
        async with serving_peers_load.http(url, texts, peer.body, peer.scores) as ask:
            await _answers(ask, peer)
            yield ask


async def _answers(ask: Ask, peer: Peer) -> None:
    """Waits for a peer's first answer."""
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            await ask(0)
        except aiohttp.ClientError as error:
            if time.monotonic() > deadline:
                log = FOLDER / f"{peer.name}.log"
                raise TimeoutError(f"does not answer: {error!r}; see {log}") from error
            await asyncio.sleep(0.2)
        else:
            return


def _figures(times: Times) -> dict[str, Any]:
    rates = {
        name: {n: each.calls_per_s for n, each in by_callers.items()}
        for name, by_callers in times.items()
    }
    p99 = {name: found[_COMPARED].percentile_ms(99) for name, found in times.items()}
    figures: dict[str, Any] = {}
    peers = [name for name in times if name != _OURS]
    if peers:
        best = max(peers, key=lambda name: rates[name][_COMPARED])
        figures["ratio_best_peer_32"] = round(rates[_OURS][_COMPARED] / rates[best][_COMPARED], 3)
        figures["p99_ratio_best_peer_32"] = round(p99[_OURS] / p99[best], 3)
        figures["best_peer"] = best
        cpu_ms = {name: _cpu_ms(found[_COMPARED]) for name, found in times.items()}
        figures["cpu_ratio_32"] = round(min(cpu_ms[name] for name in peers) / cpu_ms[_OURS], 3)
    figures["wrong"] = sum(each.wrong for found in times.values() for each in found.values())
    figures["refused"] = {
        name: sum(each.refused for each in found.values()) for name, found in times.items()
    }
    for name, by_callers in times.items():
        figures[name] = {
            str(n): {
                "calls_per_s": round(rates[name][n], 1),
                "p50_ms": round(each.percentile_ms(50), 1),
                "p99_ms": round(each.percentile_ms(99), 1),
                "cpu_ms": round(_cpu_ms(each), 2),
            }
            for n, each in by_callers.items()
        }
    return figures


def _cpu_ms(found: Measured) -> float:
    return 1e3 * found.cpu_s / len(found.taken_s)


if __name__ == "__main__":
    main()
