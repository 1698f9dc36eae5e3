"""Laws of the encoder's graph: it computes what the trained model does, for every length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.export import encoder, inference_graph
from finetune.export.candidate import Candidate
from finetune.export.inference_graph import InferenceGraph


@pytest.mark.parametrize("for_int8", [False, True])
@pytest.mark.parametrize("tokens", [8, 16])
def test_answers_are_the_trained_models(candidate: Candidate, tokens: int, for_int8: bool) -> None:
    """Also of a text that fills its length, and of one that is nearly all padding."""
    graph = inference_graph.of(candidate.model, for_int8=for_int8)
    assert isinstance(graph, InferenceGraph)
    infer = graph.function(1, (tokens,))
    generator = np.random.default_rng(0)
    for length in (2, tokens // 2, tokens):
        ids = np.zeros((1, tokens), np.int32)
        ids[0, :length] = generator.integers(1, 20, length)
        inputs = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int32)}
        tensors = {name: tf.constant(values) for name, values in inputs.items()}
        expected = candidate.task.answer(candidate.model.model, tensors)
        np.testing.assert_allclose(infer(**tensors)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(candidate: Candidate) -> None:
    graph = inference_graph.of(candidate.model)
    answers = []
    for tokens in (8, 16):
        ids = np.zeros((1, tokens), np.int32)
        ids[0, :6] = [2, 5, 6, 7, 8, 3]
        mask = (ids > 0).astype(np.int32)
        infer = graph.function(1, (tokens,))
        answers.append(infer(input_ids=tf.constant(ids), attention_mask=tf.constant(mask)))
    np.testing.assert_allclose(answers[0]["logits"], answers[1]["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"),
    [("hidden_act", "silu"), ("position_embedding_type", "relative_key"), ("is_decoder", True)],
)
def test_what_it_does_not_compute_keeps_its_own_graph(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    model = candidate.model.model
    assert encoder.takes(model)
    monkeypatch.setattr(model.config, name, value)
    assert not encoder.takes(model)
    assert inference_graph.of(candidate.model) is candidate.model
