"""The search for a static int8 language model: more and more kinds of op stay float.

    blocks of training text ─► float file: prefill of each length, decode at some columns ─► ranges
                                                                                   │
    dev ◄─ rise of the perplexity, agreement ◄─ int8 but for the islands ◄─────────┘

The first step that keeps within four fifths of the limits on dev, which is not test, is taken.
There is no int8 without islands: a decoder turns vectors by their position, and COS and SIN have
no int8 kernel.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np

from bundle.manifest import Attempt, Calibration
from bundle.preprocess import Ids, Tensors
from finetune.errors import ExportError, GateRefused
from finetune.export import language_gate, ranges, static_int8
from finetune.export.candidate import Candidate
from finetune.export.ranges import Samples
from finetune.export.search import ISLANDS, Found
from finetune.progress import Progress
from finetune.recipe import LanguageGates
from finetune.tasks.base import spread

_BLOCKS = 24  # of training text
_COLUMNS = 4  # at which each of them is decoded
_SPARE = 0.8  # of what the limits allow
_STEPS = (
    ("norms",),
    ("norms", "attention"),
    ("norms", "attention", "activations"),
    ("norms", "attention", "activations", "sums"),
)


def search(
    candidate: Candidate, model: bytes, buckets: tuple[int, ...], title: str, progress: Progress
) -> Found:
    """Tries the steps in order until one keeps within the recipe's limits on the dev split.

    Args:
        model: the float file of `decoder.Writer`.
        title: of the bundle, for messages.

    Raises:
        ExportError: all of the training split is in dev or test.
        GateRefused: no step keeps; lists all that were tried.
    """
    samples, record = _calibration(candidate, language_gate.Quantized(model, buckets), buckets)
    known = ranges.whole(model, ranges.observe(model, samples, progress))
    limits = _spared(candidate.recipe.edge.language)
    attempts: list[Attempt] = []
    for names in _STEPS:
        chosen = tuple(op for name in names for op in ISLANDS[name])
        islands = (*static_int8.without_kernel(model), *chosen)
        content = static_int8.quantize(model, known, islands)
        quantized = language_gate.Quantized(content, buckets)
        verdict = language_gate.judge(candidate, quantized, progress, candidate.data.dev)
        step = f"float {' and '.join(names)}"
        try:
            language_gate.check(step, verdict, limits)
            passed = True
        except GateRefused:
            passed = False
        attempts.append(
            Attempt(
                step=step,
                settings={},
                drop=verdict.rise,
                agreement=verdict.agreement,
                error=verdict.usual_difference,
                passed=passed,
            )
        )
        if passed:
            return Found(content, islands, tuple(attempts), record)
    raise GateRefused(f"{title}: refused: on the dev split no step keeps\n{_table(attempts)}")


def _spared(limits: LanguageGates) -> LanguageGates:
    return LanguageGates(
        max_rise=_SPARE * limits.max_rise, min_agreement=1 - _SPARE * (1 - limits.min_agreement)
    )


def _calibration(
    candidate: Candidate, model: language_gate.Quantized, buckets: tuple[int, ...]
) -> tuple[Samples, Calibration]:
    data = candidate.data
    used = {_digest(ids) for split in (data.dev, data.test) for ids in split.ids}
    own = [ids for ids in data.train.ids if len(ids) > 1 and _digest(ids) not in used]
    if not own:
        raise ExportError("calibration: every training text is in dev or test; add others")
    chosen = [own[place] for place in spread(range(len(own)), _BLOCKS)]
    samples: dict[str, list[Tensors]] = defaultdict(list)
    for ids in chosen:
        for name, tensors in _inputs(model, ids, buckets):
            samples[name].append(tensors)
    digest = hashlib.sha256(b"".join(map(_digest, chosen))).hexdigest()
    return samples, Calibration(split="train", examples=len(chosen), sha256=digest)


def _inputs(
    model: language_gate.Quantized, ids: Ids, buckets: tuple[int, ...]
) -> list[tuple[str, Tensors]]:
    """What each signature takes for a text: all lengths, and some columns."""
    found: list[tuple[str, Tensors]] = []
    for tokens in buckets:
        padded = np.resize(ids, [1, tokens]).astype(np.int32)  # repeated where it is shorter
        found.append((f"prefill_{tokens}", {"input_ids": padded}))
    cache = model.remembered(ids)
    for place in spread(range(len(ids)), _COLUMNS):
        position = np.asarray([place], np.int32)
        inputs: dict[str, Any] = {"token": ids[place : place + 1], "position": position}
        found.append(("decode", {**inputs, "cache": cache}))
    return found


def _digest(ids: Ids) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(ids, np.int32).tobytes()).digest()


def _table(attempts: list[Attempt]) -> str:
    lines = ["  rise   agreement  step"]
    lines += [f"{each.drop:7.4f} {each.agreement:9.4f}  {each.step}" for each in attempts]
    return "\n".join(lines)
