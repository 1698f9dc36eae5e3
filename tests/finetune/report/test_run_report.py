"""Laws of a report's content: it is checked when it is made, and names what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from finetune.report.run_report import Training

FIGURES: dict[str, Any] = {
    "losses": [0.7, 0.5],
    "examples_per_s": 81.0,
    "policy": "float32",
    "compilations": 2,
    "skipped_steps": 0,
    "best_epoch": 1,
    "dev_scores": [0.9],
    "seconds": 3.0,
}


def test_a_training_is_what_its_record_says() -> None:
    training = Training.of(FIGURES, "accuracy")
    assert (training.losses, training.dev_scores) == ([0.7, 0.5], [0.9])
    assert (training.precision, training.examples_per_s) == ("float32", 81.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_curve_needs_numbers(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"losses\[1\] is (nan|inf); a curve needs finite values"):
        Training.of(FIGURES | {"losses": [1.0, wrong]}, "accuracy")
    with pytest.raises(ValueError, match=r"dev_scores\[0\] is"):
        Training.of(FIGURES | {"dev_scores": [wrong]}, "accuracy")


def test_a_training_without_steps_is_none() -> None:
    with pytest.raises(ValueError, match="losses is empty"):
        Training.of(FIGURES | {"losses": []}, "accuracy")
