"""What merging calls is worth to a text classifier: gateway and backend with it and without.

command   make bench-serving-batching      (trains the quickstart's model unless it is there)
machine   2 cores of an AMD EPYC with AVX-512, no GPU; callers and servers share them
date      2026-11-28
result    ratio 2.07, 2.03 and 2.00 in three runs, p99_ratio 0.37 to 0.41, wrong 0; the best: 205
          calls a second and a p99 of 267 ms, without merging 99 and 721. The gateway was kept on
          one core then; no longer so, in a slow hour of the machine: 1.90, 0.44, 160 and 84 calls

The quickstart's MiniLM and the sentences of its test split, each asked as a text of its own by 32
callers at once; each answer is compared with the trained model's own label. `on` is
`tensorseek serve backend` behind `tensorseek serve gateway` as they are by themselves. `off` is
`tensorseek-model-server` without `--enable_batching` behind a gateway whose `max_delay_ms` is 0.
Their turns alternate, so that a drift of the machine meets both alike.

    ratio       calls a second, on over off
    p99_ratio   99th percentile of a call's time, on over off
    wrong       answers that were not the trained model's label
    on, off     calls a second, milliseconds
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop

from benchmarks import serving_peers_load
from benchmarks.serving_peers_load import Measured
from benchmarks.serving_peers_systems import FOLDER, SENTENCES
from tensorseek import stack
from tensorseek.process import Child

_MODEL, _LABELS = "movie-sentiment", ("negative", "positive")
_MODELS = Path("models").absolute()
_CALLERS, _ROUNDS, _ROUND_S, _WARM_UP_S = 32, 6, 5.0, 2.0


def main() -> None:
    """Measures, and prints one JSON line."""
    if not (FOLDER / SENTENCES).is_file():
        command = [sys.executable, "-m", "benchmarks.serving_peers_model", str(FOLDER)]
        subprocess.run(command, check=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        addresses = {
            "on": running.enter_context(_on(Path(folder, "on"))),
            "off": running.enter_context(_off(Path(folder, "off"))),
        }
        found = uvloop.run(_measure(addresses))
    print(json.dumps({"benchmark": "serving_batching", **_figures(found)}))


@contextmanager
def _on(logs: Path) -> Iterator[str]:
    ports = stack.free_ports()
    children = [
        stack.backend(_MODELS, ports, logs),
        stack.gateway(_MODELS, ports, logs, needs_model=True),
    ]
    with stack.running(children):
        stack.wait_ready(children)
        yield f"{stack.HOST}:{ports.gateway}"


@contextmanager
def _off(logs: Path) -> Iterator[str]:
    ports = stack.free_ports()
    logs.mkdir()
    settings = logs / "gateway.yaml"
    address = f"{stack.HOST}:{ports.backend}"
    settings.write_text(f"models: {_MODELS}\nbackend: {address}\nmax_delay_ms: 0\n")
    command = ["serve", "gateway", "--config", str(settings)]
    command += ["--port", str(ports.gateway), "--http-port", str(ports.http)]
    url = f"http://{stack.HOST}:{ports.http}/readyz"
    gateway = Child("gateway", command, lambda: stack.answers(url), logs)
    flags = [f"--port={ports.backend}", f"--model_name={_MODEL}"]
    flags += [f"--model_base_path={_MODELS / _MODEL}"]
    backend = subprocess.Popen(
        [sys.executable, "-m", "tensorseek.model_server", *flags], stderr=subprocess.DEVNULL
    )
    try:
        with stack.running([gateway]):
            stack.wait_ready([gateway])
            yield f"{stack.HOST}:{ports.gateway}"
    finally:
        backend.terminate()
        backend.wait()


async def _measure(addresses: dict[str, str]) -> dict[str, Measured]:
    sentences = json.loads((FOLDER / SENTENCES).read_text())
    texts = [each["text"] for each in sentences]
    labels = [each["label"] for each in sentences]
    found = {name: Measured() for name in addresses}
    for _ in range(_ROUNDS):
        for name, address in addresses.items():
            async with serving_peers_load.gateway(address, _MODEL, texts, _LABELS) as ask:
                await serving_peers_load.load(ask, labels, _CALLERS, _WARM_UP_S)
                found[name].add(await serving_peers_load.load(ask, labels, _CALLERS, _ROUND_S))
    return found


def _figures(found: dict[str, Measured]) -> dict[str, object]:
    rates = {name: len(each.taken_s) / each.wall_s for name, each in found.items()}
    p50, p99 = (
        {
            name: 1e3 * statistics.quantiles(each.taken_s, n=100)[share - 1]
            for name, each in found.items()
        }
        for share in (50, 99)
    )
    return {
        "ratio": round(rates["on"] / rates["off"], 2),
        "p99_ratio": round(p99["on"] / p99["off"], 2),
        "wrong": sum(each.wrong for each in found.values()),
        **{
            name: {
                "calls_per_s": round(rates[name], 1),
                "p50_ms": round(p50[name], 1),
                "p99_ms": round(p99[name], 1),
            }
            for name in found
        },
    }


if __name__ == "__main__":
    main()
