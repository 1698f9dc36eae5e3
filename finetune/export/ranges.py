"""Which numbers flow through a float TFLite file, measured on calibration examples.

All signatures of a file do the same ops in the same order, so what an op gives is known by its
place among them, and every example teaches about every length.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from bundle.preprocess import Tensors
from finetune.export import tflite_file
from finetune.progress import Progress

Place = tuple[int, ...]  # op, from 1 on, and output; where signatures differ, after the subgraph
Samples = Mapping[str, Sequence[Tensors]]  # signature → inputs by name, of one example each

# Softmax gives what lies so far under a row's largest score less than 1/20,000 of its weight.
_TAIL = 10.0
_TYPICAL = 0.99  # quantile
_COMPUTED = 1e30  # what is larger is a constant, such as −∞ for an expert that can't be chosen


class Range(NamedTuple):
    """The numbers that int8 must tell apart; what lies outside is cut off."""

    low: float
    high: float

    def within(self, low: float, high: float) -> Range:
        """The part of it between two numbers."""
        return Range(max(self.low, low), min(self.high, high))


Ranges = dict[Place, Range]


@dataclass
class Observed:
    """What one tensor held, over all examples."""

    low: float = np.inf
    high: float = -np.inf
    lowest_row: float = np.inf  # the largest number of the row in which that is smallest
    typical: float = 0.0  # 99% of its numbers are no farther from 0, on average over examples
    examples: int = 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Takes in what it held in one example; masks as 0, which every int8 holds."""
        values = np.where(np.abs(values) > _COMPUTED, np.float32(0), values)
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        self.lowest_row = min(self.lowest_row, float(values.max(-1).min()))
        self.examples += 1
        far = float(np.quantile(np.abs(values), _TYPICAL))
        self.typical += (far - self.typical) / self.examples


Kind = TypeVar("Kind", bound=Observed)


def places(parsed: Any) -> list[dict[int, Place]]:
    """Of each subgraph: its inputs and the tensors that its ops give, with their places."""
    graphs = parsed.subgraphs
    kinds = [[tflite_file.op_name(parsed, each) for each in graph.operators] for graph in graphs]
    alike = all(each == kinds[0] for each in kinds)
    return [
        {
            tensor: ((op, output) if alike else (number, op, output))
            for op, given in enumerate([graph.inputs, *(each.outputs for each in graph.operators)])
            for output, tensor in enumerate(given)
        }
        for number, graph in enumerate(graphs)
    ]


def observe(
    model: bytes,
    samples: Samples,
    progress: Progress,
    *,
    of: bytes | None = None,
    kind: type[Kind] = Observed,  # type: ignore[assignment]  # the default is one of the kind
) -> dict[Place, Kind]:
    """Runs the examples and notes what every float tensor held.

    Args:
        of: the file that `model` was made from by adding to it, whose tensors are meant.
        kind: what is noted of each.
    """
    found: dict[Place, Kind] = {}
    for place, values in flowing(model, samples, progress, of=of):
        if place not in found:
            found[place] = kind()
        found[place].add(values)
    return found


def flowing(
    model: bytes, samples: Samples, progress: Progress, *, of: bytes | None = None
) -> Iterator[tuple[Place, NDArray[np.float32]]]:
    """What every float tensor holds in each example; see `observe`."""
    parsed = tflite_file.parse(model)
    located = places(tflite_file.parse(of or model))
    interpreter = Interpreter(
        model_content=model,
        num_threads=os.cpu_count() or 1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    numbers = {each.signatureKey.decode(): each.subgraphIndex for each in parsed.signatureDefs}
    with progress.counted("calibrate", sum(map(len, samples.values()))) as advance:
        for signature, examples in samples.items():
            number = numbers[signature]
            variables = tflite_file.Subgraph(parsed, parsed.subgraphs[number]).variables
            run = interpreter.get_signature_runner(signature)
            for tensors in examples:
                run(**tensors)
                for tensor in variables & located[number].keys():
                    yield located[number][tensor], interpreter.get_tensor(tensor, number)
                advance()


def whole(model: bytes, observed: Mapping[Place, Observed]) -> Ranges:
    """From the smallest to the largest number of each tensor, but for what softmax can't tell."""
    ranges = {place: Range(each.low, each.high) for place, each in observed.items()}
    parsed = tflite_file.parse(model)
    for graph, located in zip(parsed.subgraphs, places(parsed), strict=True):
        lows = _softmax_lows(tflite_file.Subgraph(parsed, graph), located, observed)
        for place, low in lows.items():
            ranges[place] = Range(max(ranges[place].low, low), ranges[place].high)
    return ranges


def _softmax_lows(
    graph: tflite_file.Subgraph, located: Mapping[int, Place], observed: Mapping[Place, Observed]
) -> dict[Place, float]:
    """The least score that gets any weight, in each softmax's input and what is added up to it.

    A mask of −10⁴ would else leave one step of int8 for all scores.
    """
    lows: dict[Place, float] = {}
    producers = {tensor: each for each in graph.graph.operators for tensor in each.outputs}
    for operator, name in zip(graph.graph.operators, graph.names, strict=True):
        scores = operator.inputs[0]
        seen = observed.get(located.get(scores, ()))
        if name != "SOFTMAX" or seen is None:
            continue
        low = seen.lowest_row - _TAIL
        lows[located[scores]] = low
        producer = producers[scores]
        if tflite_file.op_name(graph.parsed, producer) != "ADD":
            continue
        summands = [located[tensor] for tensor in producer.inputs if tensor in graph.variables]
        highest = max(observed[place].high for place in summands)
        for place in summands:
            # A mask, which is never above 0, must push the highest score down to the least.
            least = low - highest if observed[place].high <= 0 else low
            lows[place] = min(lows.get(place, 0.0), least)
    return lows
