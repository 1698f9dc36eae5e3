"""Faults for a while, under load: nobody gets an error or a wrong answer, and nothing leaks.

command   make soak      (or: python -m benchmarks.soak --requests 20000)
machine   2 cores, no GPU; clients, two gateways and two backends share them
date      2026-11-28, idle machine, 2 min 26 s
result    requests 100,594, failed 0, again 0, wrong 0; p50_ms 4.8, p99_ms 14.6, slowest_ms 504;
          recovery_s 1.13, refused 1,181 of 4,000; gateway_growth 1.005, backend_growth 1.019;
          idle_connections 10,000 of 13.7 kB each

Four clients ask without a pause and check each answer, while again and again one backend is killed
and started, the other is stopped (SIGSTOP), a connection is cut, a queue filled up, a new version
published, the configuration changed and made invalid, and one gateway ended (SIGTERM) and started.
At the end as many idle connections as may be, at most 10,000, stand at a gateway that goes on
answering. Ends with exit code 1 if a law below is broken.

    requests            that were answered
    failed              requests without an answer, though a backend and a gateway were there; 0
    again               requests that a client had to make twice while only backends broke; 0
    wrong               answers that were not that version's own; 0
    p50_ms, p99_ms, slowest_ms   of a request; the slowest under 5,000
    recovery_s          the longest from a backend's return to its being asked again; under 5
    refused             calls that the filled queue turned away, of those that filled it
    gateway_growth, backend_growth   memory at the end over that after two rounds; under 1.1
    idle_connections    that stood open at once
    idle_kb             memory of the gateway for each of them
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from benchmarks import idle_connections, soak_house, trivial_model
from benchmarks.soak_house import House, send
from benchmarks.soak_load import Labels, Load
from bundle.repository import ModelRepository

_CLIENTS = 4
_ROUNDS = 5
_SETTLED = 1  # the round after which memory is looked at first
_SLOWEST_S, _RECOVERY_S, _GROWTH = 5.0, 5.0, 1.1
_MOST_IDLE = 10_000
_PATIENCE_S = 60
_TEXTS = ("a quiet film", "two brothers", "who never quite say what they mean", "mean film")


@dataclass
class Seen:
    """What the rounds came to."""

    recovery_s: list[float] = field(default_factory=list)
    refused: int = 0
    again: int = 0  # while no gateway ended


def main() -> None:
    """Runs, prints one JSON line, and fails if a law is broken."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak")
    parser.add_argument("--requests", type=int, default=100_000)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        expected = _publish(root / "store")
        (root / "models" / trivial_model.NAME).mkdir(parents=True)
        versions = _move(root / "store", root / "models")
        next(versions)
        gc.freeze()  # TensorFlow has published; to look through it would hold up the clients
        with soak_house.running(root / "models", root) as house:
            figures = _soak(house, expected, versions, requests)
    print(json.dumps({"benchmark": "soak", **figures}))
    broken = _broken(figures)
    if broken:
        sys.exit(f"benchmarks.soak: {', '.join(broken)}")


def _publish(store: Path) -> Labels:
    """Every version that the rounds will need; what each says to each text."""
    expected = {}
    for seed in range(_ROUNDS + 1):
        preprocessor = trivial_model.publish(store, seed)
        expected[seed + 1] = {
            text: trivial_model.label(preprocessor, text, seed) for text in _TEXTS
        }
    return expected


def _move(store: Path, models: Path) -> Iterator[int]:
    """Publishes one version more, each time."""
    for version in ModelRepository(store).versions(trivial_model.NAME):
        place = Path(trivial_model.NAME, str(version))
        shutil.move(store / place, models / place)  # a rename: both are on one disk
        yield version


def _soak(
    house: House, expected: Labels, versions: Iterator[int], requests: int
) -> Mapping[str, float]:
    addresses = [house.address(number % 2) for number in range(_CLIENTS)]
    load = Load(addresses, trivial_model.NAME, expected)
    seen = Seen()
    lasting = {"gateway": house.gateways[1], "backend": house.backends[1]}  # are never ended
    for number in range(_ROUNDS):
        with load.running():  # its clients prefer one gateway each, until that one ends
            load.more(200)
            _round(house, load, seen, versions)
            missing = requests * (number + 1) // _ROUNDS - len(load.answers)
            load.more(max(missing, 100), timeout_s=600)
        if number == _SETTLED:
            before = {name: _rss_kb(child.pid) for name, child in lasting.items()}
    after = {name: _rss_kb(child.pid) for name, child in lasting.items()}
    with load.running(), idle_connections.opened(house.gateway_ports[1], _MOST_IDLE) as count:
        load.more(400)
        idle_kb = (_rss_kb(house.gateways[1].pid) - after["gateway"]) / count
    taken_ms = [1e3 * seconds for _, seconds in load.answers]
    shares = statistics.quantiles(taken_ms, n=100, method="inclusive")
    return {
        "requests": len(taken_ms),
        "failed": len(load.errors),
        "again": seen.again,
        "wrong": len(load.wrong),
        "p50_ms": round(shares[49], 1),
        "p99_ms": round(shares[98], 1),
        "slowest_ms": round(max(taken_ms), 1),
        "recovery_s": round(max(seen.recovery_s), 2),
        "refused": seen.refused,
        **{f"{name}_growth": round(after[name] / before[name], 3) for name in lasting},
        "idle_connections": count,
        "idle_kb": round(idle_kb, 1),
    }


def _round(house: House, load: Load, seen: Seen, versions: Iterator[int]) -> None:
    """Everything that may go wrong, one after the other."""
    _break_backends(house, load, seen)
    _change(house, load, next(versions))
    _end_gateway(house)


def _break_backends(house: House, load: Load, seen: Seen) -> None:
    first, second = house.backends
    before = load.again
    send(first, signal.SIGKILL)
    load.more()
    first.start()
    first.wait_ready(_PATIENCE_S)
    seen.recovery_s.append(house.recovery_s(0))

    send(second, signal.SIGSTOP)
    load.more()
    send(second, signal.SIGCONT)
    seen.recovery_s.append(house.recovery_s(1))

    house.cut(0)
    seen.recovery_s.append(house.recovery_s(0))
    seen.refused += house.flood(1, trivial_model.NAME)[grpc.StatusCode.RESOURCE_EXHAUSTED]
    load.more()
    seen.again += load.again - before


def _change(house: House, load: Load, version: int) -> None:
    load.wait_for(version)
    house.configure(versions={trivial_model.NAME: {"version": version}})
    load.more()
    held = house.spoil_configs()
    load.more()
    for path, text in held.items():
        path.write_text(text)
    house.configure(versions={})
    load.more()


def _end_gateway(house: House) -> None:
    gateway = house.gateways[0]
    send(gateway, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_S
    while gateway.exit_code() is None:
        if time.monotonic() > deadline:
            raise TimeoutError("the gateway does not end")
        time.sleep(0.02)
    gateway.start()
    gateway.wait_ready(_PATIENCE_S)


def _rss_kb(pid: int | None) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no VmRSS")


def _broken(figures: Mapping[str, float]) -> list[str]:
    limits = {
        "failed": 1,
        "again": 1,
        "wrong": 1,
        "slowest_ms": 1e3 * _SLOWEST_S,
        "recovery_s": _RECOVERY_S,
        "gateway_growth": _GROWTH,
        "backend_growth": _GROWTH,
    }
    return [
        f"{name} is {figures[name]}, the limit is {most}"
        for name, most in limits.items()
        if figures[name] >= most
    ]


if __name__ == "__main__":
    main()
