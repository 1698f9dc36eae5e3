"""Laws of the reliability diagram: a bar for each bin with examples, inside the picture."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.metrics import classification
from finetune.report import calibration


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0])
def test_each_bin_with_examples_has_its_bars(scale: float) -> None:
    generator = np.random.default_rng(0)
    logits = scale * generator.normal(size=(200, 3))
    bins = classification.measure(logits, generator.integers(0, 3, 200), ["a", "b", "c"]).bins
    groups = list(calibration.draw(bins).iter("g"))
    assert len(groups) == sum(one.n > 0 for one in bins)
    for group in groups:
        for bar in group.iter("rect"):
            x, y, width, height = (
                float(bar.get(name, "")) for name in ("x", "y", "width", "height")
            )
            assert 0 <= x <= x + width <= calibration.WIDTH
            assert 0 <= y <= y + height <= calibration.HEIGHT


def test_a_bar_says_what_it_is() -> None:
    bins = classification.measure(np.asarray([[9.0, 0]]), np.asarray([0]), ["a", "b"]).bins
    (group,) = calibration.draw(bins).iter("g")
    hint = "".join(group.itertext())
    assert hint == ("confidence 0.93 to 1.00: 1 examples, mean confidence 1.000, accuracy 1.000")
