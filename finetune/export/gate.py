"""Float against quantized, on the whole test split: publish or refuse."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from bundle.manifest import Preprocess
from bundle.postprocess import real
from bundle.preprocess import Tensors
from finetune.errors import GateRefused
from finetune.export import flatbuffer
from finetune.metrics import interval
from finetune.progress import Progress
from finetune.recipe import Gates
from finetune.tasks.base import Task

Logits = NDArray[np.float32]

_RUNS, _WARM_UP = 30, 5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How true a quantized model is to the float model it was made from."""

    examples: int
    float_accuracy: float
    accuracy: float
    drop: float  # float_accuracy - accuracy: 0.005 is half a point
    drop_low: float  # 95% interval: both models answered the same examples
    drop_high: float
    agreement: float  # share of examples with the same label
    max_difference: float  # the largest of any logit
    usual_difference: float  # root mean square over all logits
    error: float  # root mean square of what changed in the logits, as a share of their own

    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        return {name: float(value) for name, value in vars(self).items()}


class Quantized:
    """A TFLite model in the runtime that devices use: one example's tensors → logits [C]."""

    def __init__(self, model: bytes, spec: Preprocess) -> None:
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._names = {shape: name for name, shape in spec.variants.items()}
        self._runners = {
            name: self._interpreter.get_signature_runner(name) for name in spec.variants
        }
        self._logits = {
            name: signature.outputs[0] for name, signature in flatbuffer.signatures(model).items()
        }

    def __call__(self, tensors: Tensors) -> Logits:
        name = self.signature(tensors)
        return real(self._runners[name](**tensors)["logits"][0], self._logits[name])

    def signature(self, tensors: Tensors) -> str:
        """The name of the one that takes an example."""
        return self._names[next(iter(tensors.values())).shape[1:]]


def run(
    model: Quantized, task: Task, split: Any, progress: Progress, title: str = "test the edge model"
) -> Logits:
    """Logits [N, C] of each example of a split alone."""
    rows: dict[int, Logits] = {}
    with progress.counted(title, len(split)) as advance:
        for (place,), tensors in task.batches(split, 1):
            rows[place] = model(tensors)
            advance()
    return np.stack([rows[place] for place in range(len(split))])


def latency(model: Quantized, task: Task, split: Any) -> dict[str, float]:
    """Median milliseconds of an example by its signature, on one thread of this machine."""
    examples: dict[str, Tensors] = {}
    for _, tensors in task.batches(split, 1):
        examples.setdefault(model.signature(tensors), tensors)
    found = {}
    for name, tensors in sorted(examples.items()):
        taken_ms = []
        for _ in range(_RUNS):
            start = time.perf_counter()
            model(tensors)
            taken_ms.append(1e3 * (time.perf_counter() - start))
        found[f"p50_ms_{name}"] = float(np.median(taken_ms[_WARM_UP:]))
    return found


def judge(reference: Logits, quantized: Logits, labels: NDArray[np.int32]) -> Verdict:
    """Compares the answers [N, C] of the float and the quantized model to N examples."""
    expected, found = reference.argmax(-1), quantized.argmax(-1)
    float_accuracy = float((expected == labels).mean())
    accuracy = float((found == labels).mean())
    lost = (expected == labels).astype(np.int64) - (found == labels)
    drop = interval.bootstrap(lambda counts: float(counts @ lost / len(lost)), len(lost))
    return Verdict(
        examples=len(labels),
        float_accuracy=float_accuracy,
        accuracy=accuracy,
        drop=float_accuracy - accuracy,
        drop_low=drop.low,
        drop_high=drop.high,
        agreement=float((expected == found).mean()),
        max_difference=float(np.abs(reference - quantized).max()),
        usual_difference=float(np.sqrt(np.square(reference - quantized).mean())),
        error=_spread(quantized - reference) / max(_spread(reference), 1e-9),
    )


def _spread(logits: Logits) -> float:
    """Of each example's logits around their mean, which changes no answer."""
    with np.errstate(invalid="ignore"):  # `check` tells of what is not a number
        return float(np.sqrt(np.square(logits - logits.mean(-1, keepdims=True)).mean()))


def check(name: str, quantized: Logits, verdict: Verdict, limits: Gates) -> None:
    """Refuses a quantized model that lost more than the recipe allows.

    Raises:
        GateRefused: names each limit that is broken, with the figure.
    """
    broken = []
    if not np.isfinite(quantized).all():
        broken.append("an answer is not a number")
    if (quantized == quantized[0]).all() and len(quantized) > 1:
        broken.append("every answer is the same")
    if verdict.drop > limits.max_drop:
        broken.append(f"accuracy drop {verdict.drop:.4f} is over max_drop {limits.max_drop}")
    if verdict.agreement < limits.min_agreement:
        broken.append(
            f"agreement {verdict.agreement:.4f} is under min_agreement {limits.min_agreement}"
        )
    if broken:
        raise GateRefused(
            f"{name}: refused: {'; '.join(broken)} (float accuracy {verdict.float_accuracy:.4f}, "
            f"quantized {verdict.accuracy:.4f}, {verdict.examples} test examples)"
        )
