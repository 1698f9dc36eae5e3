"""Laws of the schedule: from 0 to the peak, on to the floor, without a jump anywhere."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.schedule import Warmup

PEAK, FLOOR, WARMUP, TOTAL = 1e-3, 1e-5, 100, 1000


@pytest.fixture(scope="module")
def rate() -> Warmup:
    return Warmup("cosine", peak=PEAK, floor=FLOOR, warmup_steps=WARMUP, total_steps=TOTAL)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.0),
        (1, PEAK / WARMUP),
        (50, PEAK / 2),
        (99, PEAK * 0.99),
        (100, PEAK),
        (101, FLOOR + (PEAK - FLOOR) * 0.5 * (1 + math.cos(math.pi / 900))),
        (550, (PEAK + FLOOR) / 2),
        (1000, FLOOR),
        (1001, FLOOR),
        (10**6, FLOOR),
    ],
)
def test_known_values(rate: Warmup, step: int, expected: float) -> None:
    found = rate(tf.constant(step, tf.int64))
    assert found.dtype == tf.float32
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_is_continuous_and_peaks_at_the_peak(rate: Warmup) -> None:
    values = np.asarray([float(rate(step)) for step in range(WARMUP - 30, WARMUP + 30)])
    assert values.max() == pytest.approx(PEAK, rel=1e-6)
    assert np.abs(np.diff(values)).max() <= PEAK / WARMUP * 1.001


def test_is_the_same_in_a_graph(rate: Warmup) -> None:
    compiled = tf.function(rate)
    for step in (0, 99, 100, 700, 2000):
        assert float(compiled(tf.constant(step))) == float(rate(step))


def test_without_warm_up_it_starts_at_the_peak() -> None:
    rate = Warmup("cosine", peak=PEAK, floor=FLOOR, warmup_steps=0, total_steps=10)
    assert float(rate(0)) == pytest.approx(PEAK)
    assert float(rate(10)) == pytest.approx(FLOOR)


def test_warm_up_alone_and_a_single_step() -> None:
    assert float(
        Warmup("cosine", peak=PEAK, floor=0.0, warmup_steps=10, total_steps=10)(9)
    ) == pytest.approx(0.9 * PEAK)
    assert float(
        Warmup("cosine", peak=PEAK, floor=0.0, warmup_steps=0, total_steps=1)(0)
    ) == pytest.approx(PEAK)


@pytest.mark.parametrize("warmup", [-1, 11])
def test_a_warm_up_that_does_not_fit_is_refused(warmup: int) -> None:
    with pytest.raises(ValueError, match=f"warmup_steps {warmup} must be 0 to total_steps 10"):
        Warmup("cosine", peak=PEAK, floor=FLOOR, warmup_steps=warmup, total_steps=10)


def test_can_be_made_again_from_its_configuration(rate: Warmup) -> None:
    again = Warmup(**rate.get_config())
    assert float(again(321)) == float(rate(321))


@pytest.mark.parametrize(
    ("kind", "half"),
    [("cosine", 0.5), ("linear", 0.5), ("polynomial", 0.125), ("constant", 1.0)],
)
def test_every_kind_is_continuous_and_ends_where_it_must(kind: Any, half: float) -> None:
    rate = Warmup(kind, peak=PEAK, floor=FLOOR, warmup_steps=100, total_steps=1100, power=3.0)
    rates = [float(rate(step)) for step in range(1101)]
    assert rates[0] == 0.0
    assert rates[100] == pytest.approx(PEAK) == pytest.approx(max(rates))
    assert rates[600] == pytest.approx(FLOOR + (PEAK - FLOOR) * half)
    assert rates[1100] == pytest.approx(PEAK if kind == "constant" else FLOOR)
    assert float(rate(5000)) == pytest.approx(rates[1100])
    jumps = [abs(after - before) for before, after in itertools.pairwise(rates)]
    assert max(jumps) <= PEAK / 100 * 1.001
