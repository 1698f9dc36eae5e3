"""Laws of fitting: the reach costs least, stays within what was seen, and lets outliers go."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.export import fitting
from finetune.export.fitting import Counted
from finetune.export.ranges import Range

GENERATOR = np.random.default_rng(0)


def counted(values: np.ndarray) -> Counted:
    found = Counted()
    found.add(values[None].astype(np.float32))
    return found


def squared_error(values: np.ndarray, reach: float) -> float:
    """Of values, rounded to int8."""
    step = 2 * reach / 255
    return float(np.square(np.clip(np.round(values / step) * step, -reach, reach) - values).sum())


def test_every_number_is_counted_once_by_its_size() -> None:
    values = np.asarray([0.0, 1.0, -1.0, 1.1, 3.0, np.inf, -1e-30])
    found = counted(values)
    assert found.counts.sum() == 6
    assert sorted(found.counts[found.counts > 0].tolist()) == [1, 1, 1, 3]
    size = fitting._SIZES[found.counts == 3]
    assert size == pytest.approx(1.0, rel=1 / 8)


@pytest.mark.parametrize("outlier", [4.0, 20.0, 60.0])
def test_the_reach_costs_no_more_than_any_other(outlier: float) -> None:
    values = np.append(GENERATOR.normal(size=20_000), [outlier, -outlier])
    reach = fitting._reach(Range(-outlier, outlier), counted(values).counts)
    least = min(squared_error(values, each) for each in np.geomspace(outlier / 8, outlier, 40))
    assert squared_error(values, reach) <= 1.1 * least
    assert outlier / 8 <= reach <= outlier * (1 + 1e-6)


def test_many_examples_weigh_as_one_large_one() -> None:
    parts = GENERATOR.normal(size=[4, 100])
    found = Counted()
    for part in parts:
        found.add(part[None].astype(np.float32))
    np.testing.assert_array_equal(found.counts, counted(parts).counts)
