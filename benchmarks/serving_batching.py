"""What merging calls is worth to a text classifier: gateway and backend with it and without.

command   make bench-serving-batching      (trains the quickstart's model unless it is there)
machine   2 cores of an AMD EPYC with AVX-512, no GPU; callers and servers share them
date      2026-11-28
result    ratio 2.07, 1.96 and, in a slow hour of the machine, 1.90; p99_ratio 0.38 to 0.44;
          wrong 0; the first: 186 calls a second and a p99 of 287 ms, without merging 90 and 753

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
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop

from benchmarks import serving_peers_load, soak_house
from benchmarks.serving_peers_load import Measured
from benchmarks.serving_peers_systems import LABELS, MODEL, MODELS, ours, sentences
from tensorseek import stack

_CALLERS, _ROUNDS, _ROUND_S, _WARM_UP_S = 32, 6, 5.0, 2.0


def main() -> None:
    """Measures, and prints one JSON line."""
    texts, labels = sentences()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        addresses = {
            "on": running.enter_context(ours()),
            "off": running.enter_context(_off(Path(folder))),
        }
        found = uvloop.run(_measure(addresses, texts, labels))
    print(json.dumps({"benchmark": "serving_batching", **_figures(found)}))


@contextmanager
def _off(folder: Path) -> Iterator[str]:
    """The same, but nothing is merged; its configuration and log go into `folder`."""
    ports, models = stack.free_ports(), MODELS.absolute()
    config = folder / "gateway.yaml"
    address = f"{stack.HOST}:{ports.backend}"
    config.write_text(f"models: {models}\nbackend: {address}\nmax_delay_ms: 0\n")
    gateway = soak_house.gateway(config, ports)
    flags = [f"--port={ports.backend}", f"--model_name={MODEL}"]
    flags += [f"--model_base_path={models / MODEL}"]
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


async def _measure(
    addresses: Mapping[str, str], texts: Sequence[str], labels: Sequence[int]
) -> dict[str, Measured]:
    found = {name: Measured() for name in addresses}
    for _ in range(_ROUNDS):
        for name, address in addresses.items():
            async with serving_peers_load.gateway(address, MODEL, texts, LABELS) as ask:
                await serving_peers_load.load(ask, labels, _CALLERS, _WARM_UP_S)
                found[name].add(await serving_peers_load.load(ask, labels, _CALLERS, _ROUND_S))
    return found


def _figures(found: Mapping[str, Measured]) -> dict[str, object]:
    on, off = found["on"], found["off"]
    return {
        "ratio": round(on.calls_per_s / off.calls_per_s, 2),
        "p99_ratio": round(on.percentile_ms(99) / off.percentile_ms(99), 2),
        "wrong": on.wrong + off.wrong,
        **{
            name: {
                "calls_per_s": round(each.calls_per_s, 1),
                "p50_ms": round(each.percentile_ms(50), 1),
                "p99_ms": round(each.percentile_ms(99), 1),
            }
            for name, each in found.items()
        },
    }


if __name__ == "__main__":
    main()
