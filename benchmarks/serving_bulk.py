"""A million texts over one stream: how fast, and in how much memory.

command   make bench-serving-bulk      (or: python -m benchmarks.serving_bulk --inputs 100000)
machine   2 cores, no GPU; client, gateway and backend share them
date      2026-11-28
result    inputs 1,000,000, wrong 0, inputs_per_s 12,513; gateway_mb 147 (140 after a quarter of
          them), gateway_growth 1.35, client_growth 1.0 (client_mb 607, TensorFlow among it)

`Client.predict_many` sends the texts of a generator, 256 in a request and 8 requests ahead, to a
model that costs almost nothing; each answer is compared with what the model must say. Memory is
looked at after a hundredth of the inputs and at the end, at its highest each time.

    inputs              that were answered, in order
    wrong               answers whose label and score were not the text's own; 0
    inputs_per_s        answered a second
    gateway_growth, client_growth   highest memory at the end over that after a hundredth
    gateway_mb, client_mb           highest memory at the end
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import trivial_model
from bundle.postprocess import LabelScore
from serving.client import Client, Result
from tensorseek import stack

_BATCH = 256
_WORDS = trivial_model.TEXT.split()


def main() -> None:
    """Measures, and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    inputs = parser.parse_args().inputs
    with tempfile.TemporaryDirectory() as folder:
        models, logs, ports = Path(folder, "models"), Path(folder, "logs"), stack.free_ports()
        preprocessor = trivial_model.publish(models)
        right = [trivial_model.answer(preprocessor, text) for text in _texts(len(_WORDS))]
        gateway = stack.gateway(models, ports, logs, needs_model=True)
        children = [stack.backend(models, ports, logs), gateway]
        with stack.running(children), Client(f"{stack.HOST}:{ports.gateway}") as client:
            stack.wait_ready(children)
            began_s, answered, wrong = time.perf_counter(), 0, 0
            early: dict[str, float] = {}
            results = client.predict_many(trivial_model.NAME, _texts(inputs), batch=_BATCH)
            for result, expected in zip(results, itertools.cycle(right), strict=False):
                answered += 1
                wrong += not _same(result, expected)
                if answered == inputs // 100:
                    early = _highest_mb(gateway.pid)
            taken_s = time.perf_counter() - began_s
            late = _highest_mb(gateway.pid)
    figures = {"inputs": answered, "wrong": wrong, "inputs_per_s": round(answered / taken_s)}
    growth = {f"{name}_growth": round(late[name] / early[name], 3) for name in late}
    memory = {f"{name}_mb": round(value) for name, value in late.items()}
    print(json.dumps({"benchmark": "serving_bulk", **figures, **growth, **memory}))


def _texts(count: int) -> Iterator[str]:
    """Each begins with another word, in turn, so that an answer out of place shows."""
    for number in range(count):
        place = number % len(_WORDS)
        yield " ".join([_WORDS[place]] * (1 + place) + _WORDS[:place])


def _same(result: Result, expected: LabelScore) -> bool:
    if not isinstance(result, Sequence):
        return False
    label, score = result[0]
    return label == expected.label and abs(score - expected.score) < 1e-5


def _highest_mb(gateway: int | None) -> dict[str, float]:
    return {"gateway": _status_mb(str(gateway)), "client": _status_mb("self")}


def _status_mb(process: str) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
