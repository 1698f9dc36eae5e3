"""Law of the trial: only the golden answers let a version in, and silence says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bundle import golden
from bundle.manifest import Manifest, TextPreprocess
from bundle.preprocess import TextPreprocessor
from serving.errors import BackendUnavailable
from serving.gateway import trial
from serving.gateway.published import Model
from serving.gateway.types import Deadline, ModelKey, Tensors

TEXTS = ("a good film", "awful")


@pytest.fixture
def model(
    tiny_manifest: Manifest,
    tokenizer_json: bytes,
    tiny_spec: TextPreprocess,
    expected: Callable[..., Any],
) -> Model:
    logits = np.stack([expected(text) for text in TEXTS])
    examples = golden.make(TEXTS, logits, 1e-3)
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    return Model(tiny_manifest, preprocessor, (0, 0), golden=examples)


def answers(model: Model, change: float) -> str | None:
    assert model.golden is not None
    given = iter(model.golden.logits)

    async def execute(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        assert len(inputs["input_ids"]) == 1
        return {"logits": np.float32([next(given)]) + np.float32(change)}

    return asyncio.run(trial.verdict(model, execute))


def test_the_golden_answers_let_it_in_and_others_do_not(model: Model) -> None:
    assert answers(model, 0) is None
    for change in (0.1, float("nan")):
        assert "answers" in str(answers(model, change))


def test_an_answer_of_another_name_is_a_wrong_one(model: Model) -> None:
    async def execute(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        return {}

    assert "difference inf" in str(asyncio.run(trial.verdict(model, execute)))


def test_a_backend_that_is_gone_decides_nothing(model: Model) -> None:
    async def execute(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        raise BackendUnavailable("gone")

    with pytest.raises(BackendUnavailable):
        asyncio.run(trial.verdict(model, execute))
