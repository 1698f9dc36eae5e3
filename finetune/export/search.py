"""The search for a static int8 model that keeps its accuracy: cheap steps first, judged on dev.

    plain          ranges from the smallest to the largest number that flows
    clipped        feed-forward outliers cut off, at the best of a few bounds; of a model without
                   such a part, the tails of all ranges
    migrated       full_int8 only: outlier channels moved into weights, then clipped
    retrained      full_int8 only: trained on with int8's rounding in the graph, then clipped
    islands        mixed_int8 only: the ops whose int8 costs most stay float, as few as it takes

The first step that keeps within the limits is taken. When dev has too few examples to show that
any does, it is the one that changes the logits least, unless dev shows that it does not. The test
split is not looked at here. The same model and data always give the same search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bundle.manifest import Attempt, Calibration
from finetune.errors import GateRefused
from finetune.evaluate import Classified
from finetune.export import (
    calibration,
    clipping,
    gate,
    inference_graph,
    migration,
    ranges,
    retraining,
    static_int8,
    tflite,
)
from finetune.export.candidate import Candidate
from finetune.export.inference_graph import InferenceGraph
from finetune.export.ranges import Observed, Place, Ranges
from finetune.progress import Progress

StaticProfile = Literal["full_int8", "mixed_int8"]
Known = dict[Place, Observed]

# How far the bounds of clipping are, in what 99% of a tensor's numbers stay within.
_TIMES = (4.0, 3.0, 2.0)
# What may stay float, by name.
ISLANDS = {
    "norms": ("MEAN", "SUB", "RSQRT", "MUL"),
    "sums": ("ADD",),
    "attention": ("BATCH_MATMUL", "SOFTMAX"),
    "activations": ("GELU", "LOGISTIC", "RELU", "TANH"),
}


@dataclass(frozen=True)
class Found:
    """The model that a search ended with, and how it got there."""

    model: bytes
    islands: tuple[str, ...] = ()  # names of ops
    attempts: tuple[Attempt, ...] = ()
    calibration: Calibration | None = None


@dataclass(frozen=True)
class _Tried:
    """A way to quantize, with what came out."""

    step: str
    settings: dict[str, float]
    source: bytes  # the float file
    ranges: Ranges
    islands: tuple[str, ...]
    model: bytes
    verdict: gate.Verdict


def search(candidate: Candidate, profile: StaticProfile, progress: Progress) -> Found:
    """Tries the steps in order until one keeps within the recipe's limits on the dev split.

    Raises:
        ExportError: the model has an op without an int8 kernel.
        GateRefused: none does; lists all that were tried.
    """
    return _Search(candidate, profile, progress).run()


class _Search:
    def __init__(self, candidate: Candidate, profile: StaticProfile, progress: Progress) -> None:
        self._candidate, self._profile, self._progress = candidate, profile, progress
        self._limits = candidate.recipe.edge.limits(profile)
        task, dev = candidate.task, candidate.data.dev
        self._spec = task.preprocessor.spec
        trained = candidate.model
        with progress.timed("convert to float32", expected_s=30):
            graph = inference_graph.of(trained, for_int8=True)
            self._float = tflite.convert(graph, self._spec.variants, "float32")
        self._calibration = calibration.choose(task, candidate.data)
        self._observed = self._observe(self._float)
        measured = task.measure(trained.model, dev, progress=progress, title="ask the float model")
        if not isinstance(measured, Classified):
            raise TypeError(f"no search for a model that gives {type(measured).__name__}")
        self._dev = measured
        self._tried: list[_Tried] = []

    def run(self) -> Found:
        steps = self._islands() if self._profile == "mixed_int8" else self._whole()
        open_cases = []
        for tried in steps:
            if tried.verdict.agreement < self._limits.min_agreement:
                continue
            if tried.verdict.drop <= self._limits.max_drop:
                return self._found(tried)
            if tried.verdict.drop_low <= self._limits.max_drop:
                open_cases.append(tried)
        if open_cases:
            return self._found(min(open_cases, key=_error))
        title = f"{self._candidate.recipe.name} {self._profile}"
        raise GateRefused(
            f"{title}: refused: on the dev split no step keeps max_drop {self._limits.max_drop} "
            f"and min_agreement {self._limits.min_agreement}\n{table(self._attempts(None))}"
        )

    def _whole(self) -> Iterator[_Tried]:
        """The best of each step without float."""
        yield self._try("plain", {}, self._float, self._plain(), ())
        best = min(self._clipped(), key=_error)
        yield best
        times = best.settings["times"]
        yield from self._migrated(times)
        yield from self._retrained(times)

    def _islands(self) -> Iterator[_Tried]:
        """From the best step without float on: one kind of op more at a time, the dearest first."""
        plain = self._try("plain", {}, self._float, self._plain(), ())
        best = min((plain, *self._clipped()), key=_error)
        kept: tuple[str, ...] = ()
        left = dict(ISLANDS)
        while left:
            tries = {name: self._island(best, kept, name) for name in left}
            name = min(tries, key=lambda each: _error(tries[each]))
            kept = (*kept, name)
            del left[name]
            yield tries[name]

    def _island(self, best: _Tried, kept: tuple[str, ...], name: str) -> _Tried:
        names = (*kept, name)
        ops = tuple(op for each in names for op in ISLANDS[each])
        return self._try(
            f"{best.step}, float {' and '.join(names)}",
            best.settings,
            best.source,
            best.ranges,
            ops,
        )

    def _plain(self) -> Ranges:
        return ranges.whole(self._float, self._observed)

    def _clipped(self) -> list[_Tried]:
        return [self._clip("clipped", self._float, self._observed, times) for times in _TIMES]

    def _migrated(self, times: float) -> Iterator[_Tried]:
        """Nothing, of a model without a norm before its products."""
        samples = self._calibration.samples
        peaks = migration.peaks(self._float, samples, self._progress)
        if peaks:
            moved = migration.migrate(self._float, peaks)
            yield self._clip("migrated, clipped", moved, self._observe(moved), times)

    def _retrained(self, times: float) -> Iterator[_Tried]:
        """Nothing, of a model whose graph can't be trained rounded."""
        candidate = self._candidate
        if retraining.takes(candidate):
            samples = [each for some in self._calibration.samples.values() for each in some]
            graph = retraining.retrain(candidate, samples, times, self._progress)
            model = InferenceGraph(candidate.task, graph)
            source = tflite.convert(model, self._spec.variants, "float32")
            yield self._clip("retrained, clipped", source, self._observe(source), times)

    def _observe(self, source: bytes) -> Known:
        return ranges.observe(source, self._calibration.samples, self._progress)

    def _clip(self, step: str, source: bytes, observed: Known, times: float) -> _Tried:
        settings = {"times": times}
        limits = clipping.bounds(source, observed, times)
        if not limits:
            return self._try(step, settings, source, _trimmed(source, observed, times), ())
        bounded = clipping.insert(source, limits)
        samples = self._calibration.samples
        known = ranges.whole(source, ranges.observe(bounded, samples, self._progress, of=source))
        known |= {place: known[place].within(*limit) for place, limit in limits.items()}
        return self._try(step, settings, source, known, ())

    def _try(
        self,
        step: str,
        settings: dict[str, float],
        source: bytes,
        known: Ranges,
        islands: tuple[str, ...],
    ) -> _Tried:
        content = static_int8.quantize(source, known, islands)
        model = gate.Quantized(content, self._spec)
        task, dev = self._candidate.task, self._candidate.data.dev
        answers = gate.run(model, task, dev, self._progress, title=f"{step}: ask dev")
        verdict = gate.judge(self._dev.logits, answers, self._dev.labels)
        tried = _Tried(step, settings, source, known, islands, content, verdict)
        self._tried.append(tried)
        return tried

    def _found(self, taken: _Tried) -> Found:
        attempts = self._attempts(taken)
        return Found(taken.model, taken.islands, attempts, self._calibration.record)

    def _attempts(self, taken: _Tried | None) -> tuple[Attempt, ...]:
        return tuple(
            Attempt(
                step=tried.step,
                settings=tried.settings,
                drop=tried.verdict.drop,
                agreement=tried.verdict.agreement,
                error=tried.verdict.error,
                passed=tried is taken,
            )
            for tried in self._tried
        )


def table(attempts: tuple[Attempt, ...]) -> str:
    """What was tried, a line each."""
    lines = ["  drop   agreement  error  step"]
    for each in attempts:
        settings = "".join(f", {name} {value:g}" for name, value in each.settings.items())
        taken = "  ← taken" if each.passed else ""
        figures = f"{each.drop:7.4f} {each.agreement:9.4f} {each.error:8.4f}"
        lines.append(f"{figures}  {each.step}{settings}{taken}")
    return "\n".join(lines)


def _trimmed(source: bytes, observed: Known, times: float) -> Ranges:
    """Ranges without their tails."""
    far = {place: times * each.typical for place, each in observed.items()}
    known = ranges.whole(source, observed)
    return {place: each.within(-far[place], far[place]) for place, each in known.items()}


def _error(tried: _Tried) -> float:
    return tried.verdict.error
