"""Laws of migration: in float nothing changes, and what goes into the products is evener."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from finetune.export import inference_graph, migration, ranges, static_int8, tflite, tflite_file
from finetune.export.calibration import choose
from finetune.export.candidate import Candidate
from finetune.export.ranges import Samples
from finetune.progress import Silent


@pytest.fixture(scope="module")
def samples(candidate: Candidate) -> Samples:
    return choose(candidate.task, candidate.data, examples=30).samples


@pytest.fixture(scope="module")
def model(candidate: Candidate) -> bytes:
    variants = candidate.task.preprocessor.spec.variants
    graph = inference_graph.of(candidate.model, for_int8=True)
    channel = graph.model.norm["gamma"]
    channel.assign(np.where(np.arange(64) == 7, 40.0, channel.numpy()))  # an outlier
    return tflite.convert(graph, variants, "float32")


def answers(model: bytes, samples: Samples) -> Any:
    interpreter = Interpreter(model_content=model)
    return np.concatenate(
        [
            interpreter.get_signature_runner(name)(**tensors)["logits"]
            for name, each in samples.items()
            for tensors in each
        ]
    )


def test_in_float_nothing_changes(model: bytes, samples: Samples) -> None:
    known = migration.peaks(model, samples, Silent())
    moved = migration.migrate(model, known)
    assert moved != model
    np.testing.assert_allclose(answers(moved, samples), answers(model, samples), atol=2e-4)


def test_the_outlier_is_found_and_made_smaller(model: bytes, samples: Samples) -> None:
    known = migration.peaks(model, samples, Silent())
    assert known
    (worst,) = (place for place, peak in known.items() if peak.argmax() == 7)
    moved = migration.migrate(model, known)
    after = migration.peaks(moved, samples, Silent())
    before = [peak.max() / np.median(peak) for peak in known.values()]
    evened = [peak.max() / np.median(peak) for peak in after.values()]
    assert len(before) == len(evened)
    assert max(evened) < max(before) / 2
    assert known[worst].max() / np.median(known[worst]) == max(before)


def test_what_was_moved_can_be_made_int8(model: bytes, samples: Samples) -> None:
    moved = migration.migrate(model, migration.peaks(model, samples, Silent()))
    known = ranges.whole(moved, ranges.observe(moved, samples, Silent()))
    assert static_int8.quantize(moved, known)


def test_what_is_not_known_to_flow_stays_as_it_is(model: bytes) -> None:
    assert migration.migrate(model, {}) == tflite_file.pack(tflite_file.parse(model))
