"""Laws of retraining: what rounding changed in the answers becomes less, and nothing else moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bundle.preprocess import Tensors
from finetune.export import retraining
from finetune.export.calibration import choose
from finetune.export.candidate import Candidate
from finetune.export.retraining import RoundedEncoder
from finetune.progress import Silent

TIMES = 3.0


@pytest.fixture(scope="module")
def samples(candidate: Candidate) -> list[Tensors]:
    found = choose(candidate.task, candidate.data, examples=40).samples
    return [each for some in found.values() for each in some]


def asked(graph: RoundedEncoder, samples: list[Tensors], mode: Any) -> Any:
    graph._rounding.mode = mode
    rows = [
        graph({name: tf.constant(each) for name, each in one.items()}).logits for one in samples
    ]
    graph._rounding.mode = "off"
    return np.concatenate([row.numpy() for row in rows])


def error(graph: RoundedEncoder, candidate: Candidate, samples: list[Tensors]) -> float:
    """Of the rounded answers, root mean square."""
    exact = RoundedEncoder(candidate.model.model, TIMES)
    expected = asked(exact, samples, "off")
    return float(np.sqrt(np.square(asked(graph, samples, "round") - expected).mean()))


def test_rounded_answers_come_nearer_to_the_float_models(
    candidate: Candidate, samples: list[Tensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "_LEVELS", 3.0)  # so few that they change the answers
    monkeypatch.setattr(retraining, "_RATE", 3e-3)  # for a model so small, and so few examples
    monkeypatch.setattr(retraining, "_EXAMPLES", 96)
    before = RoundedEncoder(candidate.model.model, TIMES)
    before.measure(samples)
    kept = [each.numpy() for each in candidate.model.model.trainable_variables]
    after = retraining.retrain(candidate, samples, TIMES, Silent())
    assert 0 < error(after, candidate, samples) < 0.8 * error(before, candidate, samples)
    for value, variable in zip(kept, candidate.model.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_weights_are_rounded_to_steps_of_their_columns(candidate: Candidate) -> None:
    graph = RoundedEncoder(candidate.model.model, TIMES)
    kernel = tf.constant([[1.27, -0.004], [0.014, 0.5]])
    assert graph._kernel(kernel) is kernel
    graph._rounding.mode = "round"
    expected = [[1.27, -0.5 / 127], [0.01, 0.5]]
    np.testing.assert_allclose(graph._kernel(kernel), expected, atol=1e-6)
