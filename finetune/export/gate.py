"""Float against quantized, on the whole test split: publish or refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from bundle.manifest import Preprocess
from bundle.preprocess import Tensors
from finetune.errors import GateRefused
from finetune.progress import Progress
from finetune.recipe import Gates
from finetune.tasks.base import Task

Logits = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How true a quantized model is to the float model it was made from."""

    examples: int
    float_accuracy: float
    accuracy: float
    drop: float  # float_accuracy - accuracy: 0.005 is half a point
    agreement: float  # share of examples with the same label
    max_difference: float  # the largest of any logit

    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        return {name: float(value) for name, value in vars(self).items()}


class Quantized:
    """A TFLite model in the runtime that devices use: one example's tensors → logits [C]."""

    def __init__(self, model: bytes, spec: Preprocess) -> None:
        self._interpreter = Interpreter(model_content=model, num_threads=1)
        self._runners = {
            shape: self._interpreter.get_signature_runner(name)
            for name, shape in spec.variants.items()
        }

    def __call__(self, tensors: Tensors) -> Logits:
        shape = next(iter(tensors.values())).shape[1:]
        return np.array(self._runners[shape](**tensors)["logits"][0], np.float32)


def run(model: Quantized, task: Task, split: Any, progress: Progress) -> Logits:
    """Logits [N, C] of each example of a split alone."""
    rows: dict[int, Logits] = {}
    with progress.counted("test the edge model", len(split)) as advance:
        for (place,), tensors in task.batches(split, 1):
            rows[place] = model(tensors)
            advance()
    return np.stack([rows[place] for place in range(len(split))])


def judge(reference: Logits, quantized: Logits, labels: NDArray[np.int32]) -> Verdict:
    """Compares the answers [N, C] of the float and the quantized model to N examples."""
    expected, found = reference.argmax(-1), quantized.argmax(-1)
    float_accuracy = float((expected == labels).mean())
    accuracy = float((found == labels).mean())
    return Verdict(
        examples=len(labels),
        float_accuracy=float_accuracy,
        accuracy=accuracy,
        drop=float_accuracy - accuracy,
        agreement=float((expected == found).mean()),
        max_difference=float(np.abs(reference - quantized).max()),
    )


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
