"""A language model for the edge against the float one it was made from, on the whole test split.

    sequence ─► prefill ─► cache ─┬─► decode, column by column ─► logits of each next token
                                  └ a token reads the columns before its own

All that a device runs is asked here too: every token's logits come from `decode`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from bundle.postprocess import real
from bundle.preprocess import Ids
from finetune.errors import GateRefused
from finetune.export import flatbuffer
from finetune.export.candidate import Candidate
from finetune.metrics import interval
from finetune.metrics.interval import Counts
from finetune.progress import Progress
from finetune.recipe import LanguageGates
from finetune.tasks.base import spread

Logits = NDArray[np.float32]
Cache = NDArray[Any]  # float32, or what a strict int8 model remembers

_RUNS, _WARM_UP = 30, 5
_PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How true a model of an edge file is to the float model; `rise` of 0.02 is 2%."""

    examples: int  # sequences
    tokens: int  # that were predicted
    float_perplexity: float
    perplexity: float
    rise: float  # perplexity / float_perplexity - 1
    rise_low: float  # 95% interval: both models read the same sequences
    rise_high: float
    agreement: float  # share of tokens after which both find the same one most likely
    max_difference: float  # the largest of any logit
    usual_difference: float  # root mean square over all logits
    different: int  # tokens that it finds most likely anywhere

    def figures(self) -> dict[str, float]:
        """Every figure by its name."""
        return {name: float(value) for name, value in vars(self).items()}


class Quantized:
    """A TFLite file of `decoder.Writer` in the runtime that devices use.

    Args:
        delegated: with the CPU delegate; else in other kernels, which round otherwise.
    """

    def __init__(self, model: bytes, buckets: tuple[int, ...], *, delegated: bool = True) -> None:
        kernels = OpResolverType.AUTO if delegated else _PLAIN
        interpreter = Interpreter(
            model_content=model, num_threads=1, experimental_op_resolver_type=kernels
        )
        self._prefill = {
            tokens: interpreter.get_signature_runner(f"prefill_{tokens}") for tokens in buckets
        }
        self._decode = interpreter.get_signature_runner("decode")
        taken = self._decode.get_input_details()["cache"]
        self._empty = np.zeros(taken["shape"], taken["dtype"])
        (self._told,) = (
            each for each in flatbuffer.signatures(model)["decode"].outputs if each.name == "logits"
        )
        self._interpreter = interpreter  # which the runners do not keep alive

    def __call__(self, ids: Ids) -> Logits:
        """Of what follows each token of a sequence of at most the last bucket: [T, C]."""
        cache = self.remembered(ids)
        return np.stack([self._logits(ids, place, cache) for place in range(len(ids))])

    def last(self, ids: Ids) -> Logits:
        """Of what follows the whole sequence: [C]."""
        return self._logits(ids, len(ids) - 1, self.remembered(ids))

    def latency(self, ids: Ids) -> dict[str, float]:
        """Median milliseconds of each signature, on one thread of this machine."""
        calls: dict[str, Callable[[], Any]] = {"decode": lambda: self._logits(ids, 0, self._empty)}
        for tokens, run in self._prefill.items():
            padded = np.resize(ids, [1, tokens])
            calls[f"prefill_{tokens}"] = functools.partial(run, input_ids=padded)
        return {f"p50_ms_{name}": _median_ms(call) for name, call in sorted(calls.items())}

    def remembered(self, ids: Ids) -> Cache:
        """The cache [1, P, W] of a sequence."""
        tokens = next(each for each in self._prefill if each >= len(ids))
        padded = np.zeros([1, tokens], np.int32)
        padded[0, : len(ids)] = ids
        cache = self._empty.copy()
        known = self._prefill[tokens](input_ids=padded)["cache"]
        cache[:, :tokens] = known[:, : cache.shape[1]]
        return cache

    def _logits(self, ids: Ids, place: int, cache: Cache) -> Logits:
        token, position = ids[place : place + 1], np.asarray([place], np.int32)
        logits = self._decode(token=token, position=position, cache=cache)["logits"][0]
        return real(logits, self._told)


class Judge:
    """Compares edge models with the float one that they were made from."""

    def __init__(self, candidate: Candidate, progress: Progress) -> None:
        self._task, self._progress = candidate.task, progress
        self._reference = tf.function(
            lambda batch: _of_float(candidate, batch), reduce_retracing=True
        )

    def __call__(
        self, model: Quantized, split: Any, most: int | None = None, title: str = "the edge model"
    ) -> Verdict:
        """Of both models' logits after every token of a split's sequences.

        Args:
            most: of the sequences, spread evenly; None for all.
            title: what is shown meanwhile.
        """
        chosen = set(spread(range(len(split)), len(split) if most is None else most))
        compared = []
        with self._progress.counted(f"test {title}", len(chosen)) as advance:
            for (place,), tensors in self._task.batches(split, 1):
                if place in chosen:
                    compared.append(self._compared(model, split.ids[place], tensors))
                    advance()
        return _verdict(compared)

    def _compared(self, model: Quantized, ids: Ids, tensors: Any) -> _Compared:
        expected, weights = self._reference(
            {name: tf.constant(each) for name, each in tensors.items()}
        )
        return _compare(ids, weights.numpy(), expected.numpy()[: len(ids)], model(ids))


def broken(verdict: Verdict, limits: LanguageGates) -> list[str]:
    """Each limit of a recipe that a model does not keep, with the figure."""
    found = []
    if not np.isfinite(verdict.usual_difference):
        found.append("a logit is not a number")
    if verdict.different == 1 < verdict.tokens:
        found.append("every answer is the same")
    if not verdict.rise <= limits.max_rise:  # also true for NaN
        found.append(f"perplexity rise {verdict.rise:.4f} is over max_rise {limits.max_rise}")
    if verdict.agreement < limits.min_agreement:
        found.append(
            f"agreement {verdict.agreement:.4f} is under min_agreement {limits.min_agreement}"
        )
    return found


def check(name: str, verdict: Verdict, limits: LanguageGates) -> None:
    """Refuses a model that lost more than the recipe allows.

    Raises:
        GateRefused: names each limit that is broken, with the figure.
    """
    problems = broken(verdict, limits)
    if problems:
        raise GateRefused(
            f"{name}: refused: {'; '.join(problems)} (float perplexity "
            f"{verdict.float_perplexity:.4g}, quantized {verdict.perplexity:.4g}, "
            f"{verdict.tokens} test tokens)"
        )


@dataclass(frozen=True)
class _Compared:
    """One sequence, read by both models."""

    float_nll: float  # nats, summed over the predicted tokens
    nll: float
    predicted: float  # tokens
    agreed: int
    tokens: int
    squared: float  # summed differences of logits, squared
    logits: int
    largest: float
    likely: frozenset[int]  # tokens


def _of_float(candidate: Candidate, batch: dict[str, Any]) -> tuple[Any, Any]:
    """Logits [T, C], and which tokens but the first count [T - 1]."""
    task, batch = candidate.task, batch | {"weights": tf.ones([1])}
    logits = task.logits(candidate.model.model, batch, training=False)
    return logits[0], task.weights(batch)[0]


def _compare(ids: Ids, weights: Any, expected: Logits, found: Logits) -> _Compared:
    counted = np.asarray(weights[: len(ids) - 1], np.float64)
    difference = (found - expected).astype(np.float64)
    return _Compared(
        float_nll=float(_nll(expected, ids) @ counted),
        nll=float(_nll(found, ids) @ counted),
        predicted=float(counted.sum()),
        agreed=int((expected.argmax(-1) == found.argmax(-1)).sum()),
        tokens=len(ids),
        squared=float(np.square(difference).sum()),
        logits=difference.size,
        largest=float(np.abs(difference).max()),
        likely=frozenset(found.argmax(-1).tolist()),
    )


def _nll(logits: Logits, ids: Ids) -> NDArray[np.float64]:
    """Of each token but the first, nats: [T - 1]."""
    wide = logits[:-1].astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    chosen = np.take_along_axis(wide, ids[1:, None], -1)[:, 0]
    return np.asarray(np.log(np.exp(wide).sum(-1)) - chosen)


def _verdict(compared: list[_Compared]) -> Verdict:
    nll, float_nll, predicted = (
        np.asarray([getattr(each, name) for each in compared])
        for name in ("nll", "float_nll", "predicted")
    )

    def rise(drawn: Counts) -> float:
        return float(np.expm1((drawn @ (nll - float_nll)) / max(drawn @ predicted, 1.0)))

    found = interval.bootstrap(rise, len(compared))
    return Verdict(
        examples=len(compared),
        tokens=int(predicted.sum()),
        float_perplexity=float(np.exp(float_nll.sum() / predicted.sum())),
        perplexity=float(np.exp(nll.sum() / predicted.sum())),
        rise=found.value,
        rise_low=found.low,
        rise_high=found.high,
        agreement=sum(each.agreed for each in compared) / sum(each.tokens for each in compared),
        max_difference=max(each.largest for each in compared),
        usual_difference=float(
            np.sqrt(sum(each.squared for each in compared) / sum(each.logits for each in compared))
        ),
        different=len(frozenset().union(*(each.likely for each in compared))),
    )


def _median_ms(call: Callable[[], Any]) -> float:
    taken_ms = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        call()
        taken_ms.append(1e3 * (time.perf_counter() - start))
    return float(np.median(taken_ms[_WARM_UP:]))
