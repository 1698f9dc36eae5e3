"""How fast a quantized encoder answers, against ONNX Runtime and PyTorch on the same weights.

command   make bench-edge-latency      (trains the quickstart's model unless it is there, and
                                       fetches PyTorch on its first run)
machine   2 cores of an AMD EPYC with AVX-512 VNNI, no GPU, otherwise idle; LiteRT 2.3, ONNX Runtime
          1.32, PyTorch 2.13
date      2026-11-25
result    ratio_onnxruntime_int8 1.72, at 128 tokens 1.58; ratio_float32 3.33; short_cost 0.29;
          dynamic_drop -0.003, full_int8_drop 0.003, mixed_int8_drop 0.000

          ms, one thread        16      32      64     128   accuracy
          ours dynamic_int8    1.12    1.96    3.88    8.46   0.862
          ours full_int8       1.30    2.29    4.88   10.60   0.857
          ours mixed_int8      1.28    2.25    4.82   10.50   0.859
          ours float32         4.30    6.78   12.95   24.68   0.859
          ONNX Runtime int8    1.91    3.51    6.66   13.37   0.859
          ONNX Runtime float   5.25    8.89   16.04   31.42   0.859
          PyTorch float       10.06   13.74   21.21   36.78   0.859

          two threads           16      32      64     128
          ours dynamic_int8    0.76    1.37    2.29    4.47
          ONNX Runtime int8    2.03    3.39    5.19    9.94
          PyTorch float        7.87    9.81   13.86   22.41

The converted files are kept in build/edge-latency: remove it to have them made again.

One sentence at a time, of 16, 32, 64 and 128 tokens, on one thread and on two. Rounds alternate
between the contenders, so that a drift of the machine meets all alike. ONNX Runtime's model is the
file of `tensorseek export --onnx`, and the same quantized by its own `quantize_dynamic` with a
scale for each channel; PyTorch's is transformers' BERT in float32. Accuracy is on the whole test
split, each sentence at its own length. (PyTorch's exporter gives ONNX Runtime a model that is 2%
quicker at 64 tokens and 9% slower at 128.)

    ratio_onnxruntime_int8      ONNX Runtime's int8 to our dynamic_int8: 64 tokens, one thread
    ratio_onnxruntime_int8_128  the same at 128 tokens
    ratio_float32               our float32 to our dynamic_int8: 64 tokens, one thread
    dynamic_drop                accuracy of our float32 minus that of dynamic_int8
    full_int8_drop              the same of full_int8
    short_cost                  12 tokens to 64, dynamic_int8
    <contender>_<tokens>_<threads>t_ms   median
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks import edge_latency_pytorch_weights, edge_models, torch_environment
from bundle import archive, atomic
from bundle.repository import SavedBundle
from finetune.export import candidate, inference_graph, onnx, search, tflite
from finetune.export.candidate import Candidate
from finetune.export.search import StaticProfile
from finetune.progress import Progress
from tensorseek.progress import TerminalProgress

_LENGTHS = (16, 32, 64, 128)
_THREADS = (1, 2)
_ROUNDS, _CALLS = 8, 20
_OUT = Path("build", "edge-latency")

Ids = Any  # int32 [tokens]
Ask = Callable[[Ids], int]  # token ids → label


def main() -> None:
    """Measures, and prints one JSON line."""
    progress = TerminalProgress()
    torch_environment.install(progress)
    saved = _at_lengths(edge_models.movies(progress)[1])
    trained = candidate.of_version(saved, progress)
    files = _kept("ours", lambda: _quantized(trained, progress))
    weights = edge_latency_pytorch_weights.write(trained.model.model, _OUT / "pytorch")
    sessions = _kept("onnxruntime", lambda: _onnx(saved, progress))
    figures: dict[str, float] = {}
    for threads in _THREADS:
        with PyTorch(weights, threads) as pytorch:
            asks: dict[str, Ask] = {name: _litert(each, threads) for name, each in files.items()}
            asks |= {name: _onnxruntime(each, threads) for name, each in sessions.items()}
            asks["pytorch"] = pytorch.ask
            if threads == 1:
                figures |= _accuracies(asks, trained, progress)
            figures |= _times(asks, pytorch, trained, threads, progress)
    print(json.dumps({"benchmark": "edge_latency", **_rounded(_headline(figures) | figures)}))


def _at_lengths(saved: SavedBundle) -> SavedBundle:
    """The same version, as if its recipe had the lengths that are compared."""
    provenance = saved.manifest.provenance
    data = provenance.recipe["data"] | {"buckets": list(_LENGTHS)}
    provenance = msgspec.structs.replace(provenance, recipe=provenance.recipe | {"data": data})
    described = msgspec.structs.replace(saved.manifest, provenance=provenance)
    return SavedBundle(saved.path, described)


def _quantized(trained: Candidate, progress: Progress) -> dict[str, bytes]:
    variants = trained.task.preprocessor.spec.variants
    graph = inference_graph.of(trained.model)
    files = {name: tflite.convert(graph, variants, name) for name in ("float32", "dynamic_int8")}
    for profile in get_args(StaticProfile):
        files[profile] = search.search(trained, profile, progress).model
    return {f"ours_{name}": content for name, content in files.items()}


def _kept(kind: str, make: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    """Files that take minutes to make, kept so that only the timing needs an idle machine."""
    path = _OUT / f"{kind}.zip"
    if not path.is_file():
        atomic.write_bytes(path, archive.pack(make()))
    return archive.unpack(path)


def _onnx(saved: SavedBundle, progress: Progress) -> dict[str, bytes]:
    with progress.timed("convert to ONNX", expected_s=40), tempfile.TemporaryDirectory() as folder:
        plain, prepared, int8 = (Path(folder, f"{name}.onnx") for name in ("plain", "p", "int8"))
        plain.write_bytes(onnx.convert(saved))
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_dynamic(prepared, int8, per_channel=True, weight_type=QuantType.QInt8)
        return {
            "onnxruntime_float32": plain.read_bytes(),
            "onnxruntime_int8": int8.read_bytes(),
        }


def _litert(content: bytes, threads: int) -> Ask:
    interpreter = Interpreter(model_content=content, num_threads=threads)
    runners = {tokens: interpreter.get_signature_runner(f"tokens_{tokens}") for tokens in _LENGTHS}

    def ask(ids: Ids) -> int:
        tokens = next(each for each in _LENGTHS if each >= len(ids))
        padded = np.zeros((1, tokens), np.int32)
        padded[0, : len(ids)] = ids
        mask = np.zeros((1, tokens), np.int32)
        mask[0, : len(ids)] = 1
        return int(runners[tokens](input_ids=padded, attention_mask=mask)["logits"].argmax())

    return ask


def _onnxruntime(content: bytes, threads: int) -> Ask:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def ask(ids: Ids) -> int:
        inputs = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int32)}
        return int(session.run(["logits"], inputs)[0].argmax())

    return ask


class PyTorch:
    """The model in PyTorch, in a process of its own environment; see `edge_latency_pytorch`."""

    def __init__(self, weights: Path, threads: int) -> None:
        script = Path(__file__).with_name("edge_latency_pytorch.py")
        command = [str(torch_environment.PYTHON), str(script), str(weights), str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> PyTorch:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, ids: Ids) -> int:
        """The label of one text."""
        return int(self._send(ids, 1)["label"])

    def times(self, ids: Ids, calls: int) -> list[float]:
        """Milliseconds of some calls, as the process itself takes them."""
        found: list[float] = self._send(ids, calls)["ms"]
        return found

    def _send(self, ids: Ids, calls: int) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"ids": ids.tolist(), "calls": calls}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _accuracies(
    asks: Mapping[str, Ask], trained: Candidate, progress: Progress
) -> dict[str, float]:
    test = trained.data.test
    found = {}
    for name, ask in asks.items():
        with progress.counted(f"test {name}", len(test)) as advance:
            hits = 0
            for ids, label in zip(test.ids, test.labels, strict=True):
                hits += ask(ids) == label
                advance()
        found[f"{name}_accuracy"] = hits / len(test)
    return found


def _times(
    asks: Mapping[str, Ask], pytorch: PyTorch, trained: Candidate, threads: int, progress: Progress
) -> dict[str, float]:
    ids = np.concatenate(trained.data.test.ids)
    texts = {tokens: ids[:tokens].astype(np.int32) for tokens in (12, *_LENGTHS)}
    taken: dict[str, list[float]] = {}
    with progress.counted(f"time with {threads} threads", _ROUNDS) as advance:
        for _ in range(_ROUNDS):
            for tokens, text in texts.items():
                for name, ask in asks.items():
                    times = pytorch.times(text, _CALLS) if name == "pytorch" else _timed(ask, text)
                    taken.setdefault(f"{name}_{tokens}_{threads}t_ms", []).extend(times)
            advance()
    return {name: statistics.median(times) for name, times in taken.items()}


def _timed(ask: Ask, text: Ids) -> list[float]:
    ask(text)
    taken_ms = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        ask(text)
        taken_ms.append(1e3 * (time.perf_counter() - start))
    return taken_ms


def _headline(figures: Mapping[str, float]) -> dict[str, float]:
    def ratio(slower: str, tokens: int) -> float:
        return figures[f"{slower}_{tokens}_1t_ms"] / figures[f"ours_dynamic_int8_{tokens}_1t_ms"]

    exact = figures["ours_float32_accuracy"]
    return {
        "ratio_onnxruntime_int8": ratio("onnxruntime_int8", 64),
        "ratio_onnxruntime_int8_128": ratio("onnxruntime_int8", 128),
        "ratio_float32": ratio("ours_float32", 64),
        "dynamic_drop": exact - figures["ours_dynamic_int8_accuracy"],
        "full_int8_drop": exact - figures["ours_full_int8_accuracy"],
        "mixed_int8_drop": exact - figures["ours_mixed_int8_accuracy"],
        "short_cost": figures["ours_dynamic_int8_12_1t_ms"] / figures["ours_dynamic_int8_64_1t_ms"],
    }


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


if __name__ == "__main__":
    main()
