"""Laws of a sick training: what is wrong is told with the examples it happened on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import health
from finetune.distribution import Distribution
from finetune.tasks.base import TaskData

LN_2 = 0.6931


@pytest.mark.parametrize(
    ("loss", "finite", "scales", "expected"),
    [
        (0.6, True, False, None),
        (float("nan"), True, True, "loss is nan"),
        (float("inf"), True, False, "loss is inf"),
        (0.6, False, False, "gradients are not finite"),
        (0.6, False, True, None),  # the step is skipped, and the scale lowered
        (6.9, True, False, None),
        (7.7, True, False, "loss is 7.7, 11 times that of answering at random"),
    ],
)
def test_a_fault_is_told_from_a_bad_step(
    loss: float, finite: bool, scales: bool, expected: str | None
) -> None:
    assert health.fault(loss, finite=finite, scales=scales, at_random=LN_2) == expected


def test_the_origin_names_the_examples_that_count(task: Any, data: TaskData) -> None:
    batch = {
        "places": tf.constant([7, 3, 11, 2, 7]),
        "weights": tf.constant([1.0, 1.0, 1.0, 1.0, 0.0]),
    }
    found = health.origin(task, data.train, batch, Distribution())
    assert found.startswith(f"{task.recipe.data.train}: example 8 ('")
    assert f"example 4 ({data.train.texts[3][:60]!r}" in found
    assert found.endswith("; and 1 more")
    assert "example 3 " not in found


def test_the_places_of_a_batch_are_those_of_its_examples(task: Any, data: TaskData) -> None:
    for batch in task.training_batches(data, epoch=1, multiple=3).take(5):
        pairs = zip(batch["places"].numpy(), batch["input_ids"].numpy(), strict=True)
        for place, ids in pairs:
            expected = data.train.ids[place]
            np.testing.assert_array_equal(ids[: len(expected)], expected)
