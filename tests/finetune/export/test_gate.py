"""Laws of the gate: what a quantized model lost is measured and, beyond the limits, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from finetune.errors import GateRefused
from finetune.export import gate
from finetune.recipe import Gates

FLOAT: NDArray[Any] = np.asarray([[1, 0], [0, 1], [2, 0], [0, 2]] * 25, np.float32)
LABELS = FLOAT.argmax(-1).astype(np.int32)


def refused(quantized: NDArray[Any], expected: str, **limits: float) -> None:
    verdict = gate.judge(FLOAT, quantized, LABELS)
    with pytest.raises(GateRefused, match=f"^tiny: refused: {expected}"):
        gate.check("tiny", quantized, verdict, Gates(**limits))


def flipped(count: int) -> NDArray[Any]:
    quantized = FLOAT.copy()
    quantized[:count] = quantized[:count, ::-1]
    return quantized


def test_a_verdict_holds_every_figure() -> None:
    labels = LABELS.copy()
    labels[:10] = 1 - labels[:10]  # the float model is wrong in ten
    verdict = gate.judge(FLOAT, flipped(4), labels)
    assert verdict.examples == 100
    assert verdict.float_accuracy == pytest.approx(0.90)
    assert verdict.accuracy == pytest.approx(0.94)
    assert verdict.drop == pytest.approx(-0.04)  # better by luck
    assert verdict.drop_low < -0.04 < verdict.drop_high <= 0
    assert verdict.agreement == pytest.approx(0.96)
    assert verdict.max_difference == 2
    assert 0 < verdict.error < 1
    assert all(type(figure) is float for figure in verdict.figures().values())
    assert verdict.figures().keys() == vars(verdict).keys()


def test_a_true_model_passes_also_at_the_strictest() -> None:
    quantized = FLOAT + np.float32(0.3)
    verdict = gate.judge(FLOAT, quantized, LABELS)
    gate.check("tiny", quantized, verdict, Gates(max_drop=0, min_agreement=1))


def test_figures_at_the_limits_pass() -> None:
    verdict = gate.judge(FLOAT, flipped(2), LABELS)
    gate.check("tiny", flipped(2), verdict, Gates(max_drop=0.02 + 1e-9, min_agreement=0.98))


def test_a_drop_is_refused_with_the_figures() -> None:
    refused(
        flipped(2),
        r"accuracy drop 0\.0200 is over max_drop 0\.01 \(float accuracy 1\.0000, "
        r"quantized 0\.9800, 100 test examples\)",
        max_drop=0.01,
        min_agreement=0.9,
    )


def test_disagreement_is_refused_though_accuracy_did_not_drop() -> None:
    refused(
        flipped(2),
        r"agreement 0\.9800 is under min_agreement 0\.99 \(float",
        max_drop=1,
        min_agreement=0.99,
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_a_number_is_refused(bad: float) -> None:
    quantized = FLOAT.copy()
    quantized[50, 1] = bad
    refused(quantized, "an answer is not a number", max_drop=1, min_agreement=0)


def test_the_same_answer_to_everything_is_refused() -> None:
    constant = np.tile(FLOAT[:1], (100, 1))
    refused(constant, "every answer is the same", max_drop=1, min_agreement=0)


def test_every_broken_limit_is_told_at_once() -> None:
    refused(np.full_like(FLOAT, np.nan), "an answer is not a number; accuracy drop .*; agreement ")
    refused(np.zeros_like(FLOAT), "every answer is the same; accuracy drop .*; agreement ")
