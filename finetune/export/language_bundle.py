"""What the edge bundle of a language model holds: see `decoder` for its signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from bundle import golden
from bundle.manifest import Generation, Profile
from bundle.preprocess import TextPreprocessor
from finetune.deepseek import cache
from finetune.errors import ExportError
from finetune.export import (
    decoder,
    flatbuffer,
    generation,
    language_gate,
    language_search,
    tflite,
)
from finetune.export.candidate import Candidate
from finetune.export.converted import Converted, tolerance
from finetune.export.decoder import Writer
from finetune.export.language_gate import Quantized, Verdict
from finetune.export.search import Found
from finetune.progress import Progress

_POSITIONS = 1024  # the most columns of a cache, which a device holds and hands over at each token
_GOLDEN = 4  # examples: each has a logit for every token of the vocabulary
_GOLDEN_FROM = 16
_TIMES_MEASURED = 2.0  # what other kernels change, that a device may


def make(candidate: Candidate, profile: Profile, title: str, progress: Progress) -> Converted:
    """Converts a language model and has its gate judge it.

    Raises:
        ExportError: the profile, or the architecture, is none for a language model.
        GateRefused: the converted model lost too much, or is not what its profile says.
    """
    told = generation.record(candidate)
    if told is None or not decoder.takes(candidate.model.model):
        raise ExportError(
            f"{title}: only a language model of the DeepSeek family, without sliding windows, "
            "writes on a device; set edge.profiles to []"
        )
    preprocessor = candidate.task.preprocessor
    if not isinstance(preprocessor, TextPreprocessor):
        raise TypeError(f"no language model reads what {type(preprocessor).__name__} gives")
    buckets = preprocessor.spec.buckets
    positions = min(told.positions, max(_POSITIONS, buckets[-1]))
    with progress.timed(f"convert to {profile}", expected_s=30):
        writer = Writer(candidate.model.model)
        functions = _functions(writer, buckets, positions)
        static = profile in ("full_int8", "mixed_int8")
        content = tflite.convert_functions(writer, functions, "float32" if static else profile)
    found = Found(content)
    if profile in ("full_int8", "mixed_int8"):
        found = language_search.search(candidate, profile, content, buckets, title, progress)
    content = found.model
    flatbuffer.check_profile(flatbuffer.inspect(content), profile)
    model = Quantized(content, buckets)
    verdict = language_gate.Judge(candidate, progress)(model, candidate.data.test)
    language_gate.check(title, verdict, candidate.recipe.edge.language)
    longest = max(candidate.data.test.ids, key=len)
    return Converted(
        model=content,
        golden=_golden(candidate, preprocessor, content, verdict),
        evaluation=verdict.figures() | model.latency(longest),
        islands=found.islands,
        attempts=found.attempts,
        calibration=found.calibration,
        generation=Generation(positions=positions, end_ids=told.end_ids),
    )


def _functions(writer: Writer, buckets: tuple[int, ...], positions: int) -> dict[str, Any]:
    """The concrete functions by the names of their signatures."""
    width = cache.width(writer.model.config)

    def prefill(tokens: int) -> Any:
        ids = tf.TensorSpec([1, tokens], tf.int32, "input_ids")
        return tf.function(writer.prefill).get_concrete_function(ids)

    decode = tf.function(writer.decode)
    return {
        **{f"prefill_{tokens}": prefill(tokens) for tokens in buckets},
        "decode": decode.get_concrete_function(
            tf.TensorSpec([1], tf.int32, "token"),
            tf.TensorSpec([1], tf.int32, "position"),
            tf.TensorSpec([1, positions, width], tf.float32, "cache"),
        ),
    }


def _golden(
    candidate: Candidate, preprocessor: TextPreprocessor, model: bytes, verdict: Verdict
) -> golden.Golden:
    """The logits of what follows a few test sequences: those in which rounding matters least.

    Kernels that round otherwise may choose another expert where two are nearly equal, and change a
    logit by as much as a wrong kernel does. A wrong one shows everywhere.
    """
    buckets = preprocessor.spec.buckets
    inputs = [str(raw) for raw in candidate.golden_inputs(_GOLDEN_FROM)]
    found, otherwise = (
        np.stack([quantized.last(ids) for ids in preprocessor.encode(inputs)])
        for quantized in (Quantized(model, buckets), Quantized(model, buckets, delegated=False))
    )
    changed = np.abs(found - otherwise).max(-1)
    kept = sorted(np.argsort(changed, kind="stable")[:_GOLDEN].tolist())
    allowed = max(tolerance(verdict.usual_difference), _TIMES_MEASURED * float(changed[kept].max()))
    return golden.make([inputs[place] for place in kept], found[kept], allowed)
