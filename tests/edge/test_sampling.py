"""Laws of sampling: settings are checked, and what they leave out is never drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import InputError
from edge.sampling import Sampling

LOGITS = np.asarray([0.0, 3.0, 1.0, 2.0, -np.inf], np.float32)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: 0 must be at least 1"),
        ({"temperature": -0.1}, r"temperature: -0\.1 must be 0 or more"),
        ({"temperature": np.nan}, "temperature: nan must be 0 or more"),
        ({"top_k": -1}, r"top_k: -1 must be 0 \(no limit\) or more"),
        ({"top_p": 0.0}, r"top_p: 0\.0 must be above 0 and at most 1"),
        ({"top_p": 1.1}, r"top_p: 1\.1 must be above 0 and at most 1"),
        ({"seed": -1}, "seed: -1 must be 0 or more"),
        ({"stop": ("",)}, r"stop: \('',\) must hold no empty string"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(setting: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Sampling(**setting)


def test_without_temperature_the_most_likely_is_taken() -> None:
    choose = Sampling(top_k=3, top_p=0.5, seed=0).chooser()
    assert {choose(LOGITS) for _ in range(20)} == {1}


@pytest.mark.parametrize(
    ("limit", "drawn"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {1, 3}),
        ({"top_k": 1}, {1}),
        ({"top_p": 0.01}, {1}),
        ({"top_p": 0.7}, {1, 3}),  # 0.64, 0.24, 0.09, 0.03
        ({"top_k": 3, "top_p": 0.9}, {1, 3}),  # of three 0.67, 0.24, 0.09
    ],
)
def test_only_likely_tokens_are_drawn_and_all_of_them(
    limit: dict[str, Any], drawn: set[int]
) -> None:
    choose = Sampling(temperature=1.0, seed=3, **limit).chooser()
    assert {choose(LOGITS) for _ in range(600)} == drawn


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    choose = Sampling(temperature=2.0, seed=0).chooser()
    counts = np.bincount([choose(LOGITS) for _ in range(8000)], minlength=5) / 8000
    expected = np.exp(LOGITS / 2) / np.exp(LOGITS / 2).sum()
    np.testing.assert_allclose(counts, expected, atol=0.02)


@given(st.integers(0, 2**40), st.floats(0.01, 1e6))
def test_a_seed_draws_the_same_tokens_again(seed: int, temperature: float) -> None:
    settings = Sampling(temperature=temperature, seed=seed)
    first, second = settings.chooser(), settings.chooser()
    assert [first(LOGITS) for _ in range(5)] == [second(LOGITS) for _ in range(5)]
