"""The search for a static int8 language model: strict first, then more and more kinds of op float.

    blocks of training text ─► float file: prefill of each length, decode at some columns ─► ranges
                                                                                   │
    dev ◄─ rise of the perplexity, agreement ◄─ int8 but for the islands ◄─────────┘

    plain          ranges from the smallest to the largest number that flows
    fitted         ranges that cost least; see `fitting`
    islands        mixed_int8 only: what costs most stays float, as little as it takes; what each
                   kind of op costs is measured on a part of dev

The first step that keeps within four fifths of what the limits allow on dev, which is not test, is
taken; if none does, the one of those within the limits themselves that changes the logits least.
The same model and data always give the same search.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bundle.manifest import Attempt, Calibration
from bundle.preprocess import Ids, Tensors
from finetune.errors import ExportError, GateRefused
from finetune.export import fitting, language_gate, ranges, static_int8, tflite_file
from finetune.export.candidate import Candidate
from finetune.export.int8_scales import MOVES
from finetune.export.ranges import Range, Ranges, Samples
from finetune.export.search import ISLANDS, Found, StaticProfile
from finetune.progress import Progress
from finetune.recipe import LanguageGates
from finetune.tasks.base import spread

_BLOCKS = 100  # of training text
_COLUMNS = 3  # at which each of them is decoded
_MEASURED = 24  # sequences of dev, on which the costs of islands are compared
_SPARE = 0.8  # of what the limits allow
_REMEMBERED = (b"cache", b"entry")  # what one signature gives another
_GROUPS = {
    **ISLANDS,
    "moves": tuple(sorted(MOVES)),
    "sums": (*ISLANDS["sums"], "SUM"),
    # Dynamic int8: a few units of a few tokens are ten times larger than the rest.
    "feed-forward outputs": ("FULLY_CONNECTED:down_proj",),
    "routers": ("FULLY_CONNECTED:router",),
}


def search(
    candidate: Candidate,
    profile: StaticProfile,
    model: bytes,
    buckets: tuple[int, ...],
    title: str,
    progress: Progress,
) -> Found:
    """Tries the steps in order until one keeps within the recipe's limits on the dev split.

    Args:
        model: the float file of `decoder.Writer`.
        title: of the bundle, for messages.

    Raises:
        ExportError: all of the training split is in dev or test, or an op has no int8 kernel.
        GateRefused: no step keeps; lists all that were tried.
    """
    return _Search(candidate, model, buckets, progress).run(profile, title)


class _Tried(NamedTuple):
    """A way to quantize, with what came out on dev."""

    step: str
    islands: tuple[str, ...]
    model: bytes
    verdict: language_gate.Verdict


class _Search:
    def __init__(
        self, candidate: Candidate, model: bytes, buckets: tuple[int, ...], progress: Progress
    ) -> None:
        self._dev = candidate.data.dev
        self._model, self._buckets = model, buckets
        self._limits = candidate.recipe.edge.language
        self._judge = language_gate.Judge(candidate, progress)
        float_model = language_gate.Quantized(model, buckets)
        samples, self._calibration = _calibration(candidate, float_model, buckets)
        observed = ranges.observe(model, samples, progress, kind=fitting.Counted)
        self._plain = _tied(model, ranges.whole(model, observed))
        self._fitted = _tied(model, fitting.fitted(model, observed))
        self._tried: list[_Tried] = []

    def run(self, profile: StaticProfile, title: str) -> Found:
        spared = _spared(self._limits)
        for tried in self._whole() if profile == "full_int8" else self._mixed():
            if not language_gate.broken(tried.verdict, spared):
                return self._found(tried)
        kept = [
            each for each in self._tried if not language_gate.broken(each.verdict, self._limits)
        ]
        if kept:
            return self._found(min(kept, key=lambda each: each.verdict.usual_difference))
        raise GateRefused(
            f"{title}: refused: on the dev split no step keeps max_rise {self._limits.max_rise} "
            f"and min_agreement {self._limits.min_agreement}\n{_table(self._tried)}"
        )

    def _whole(self) -> Iterator[_Tried]:
        yield self._try("plain", self._plain, ())
        yield self._try("fitted", self._fitted, ())

    def _mixed(self) -> Iterator[_Tried]:
        """One kind of op more at a time, the dearest first."""
        kept: tuple[str, ...] = ()
        while len(kept) < len(_GROUPS):
            costs = {name: self._cost((*kept, name)) for name in _GROUPS if name not in kept}
            kept = (*kept, min(costs, key=lambda name: costs[name]))
            yield self._try(f"fitted, float {' and '.join(kept)}", self._fitted, _ops(kept))

    def _cost(self, names: tuple[str, ...]) -> float:
        """What changes in the logits when these islands stay float."""
        content = static_int8.quantize(self._model, self._fitted, _ops(names))
        quantized = language_gate.Quantized(content, self._buckets)
        title = f"float {' and '.join(names)}"
        return self._judge(quantized, self._dev, _MEASURED, title).usual_difference

    def _try(self, step: str, known: Ranges, islands: tuple[str, ...]) -> _Tried:
        content = static_int8.quantize(self._model, known, islands)
        quantized = language_gate.Quantized(content, self._buckets)
        verdict = self._judge(quantized, self._dev, title=step)
        self._tried.append(_Tried(step, islands, content, verdict))
        return self._tried[-1]

    def _found(self, taken: _Tried) -> Found:
        attempts = tuple(
            Attempt(
                step=each.step,
                settings={},
                drop=each.verdict.rise,
                agreement=each.verdict.agreement,
                error=each.verdict.usual_difference,
                passed=each is taken,
            )
            for each in self._tried
        )
        return Found(taken.model, taken.islands, attempts, self._calibration)


def _ops(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(op for name in names for op in _GROUPS[name])


def _spared(limits: LanguageGates) -> LanguageGates:
    return LanguageGates(
        max_rise=_SPARE * limits.max_rise, min_agreement=1 - _SPARE * (1 - limits.min_agreement)
    )


def _tied(model: bytes, known: Ranges) -> Ranges:
    """The ranges, with one for all that is remembered: what is given must be what is taken."""
    parsed = tflite_file.parse(model)
    located = ranges.places(parsed)
    same = [
        located[signature.subgraphIndex][each.tensorIndex]
        for signature in parsed.signatureDefs
        for each in (*signature.inputs, *signature.outputs)
        if each.name in _REMEMBERED
    ]
    low, high = min(known[place].low for place in same), max(known[place].high for place in same)
    return known | dict.fromkeys(same, Range(low, high))


def _calibration(
    candidate: Candidate, model: language_gate.Quantized, buckets: tuple[int, ...]
) -> tuple[Samples, Calibration]:
    """Training texts of every length, none of which is also tested on."""
    data = candidate.data
    used = {_digest(ids) for split in (data.dev, data.test) for ids in split.ids}
    own = [ids for ids in data.train.ids if len(ids) > 1 and _digest(ids) not in used]
    if not own:
        raise ExportError("calibration: every training text is in dev or test; add others")
    own.sort(key=len)  # stable: texts of one length stay in order
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


def _table(tried: list[_Tried]) -> str:
    lines = [
        f"{each.verdict.rise:7.4f} {each.verdict.agreement:9.4f}  {each.step}" for each in tried
    ]
    return "\n".join(["  rise   agreement  step", *lines])
