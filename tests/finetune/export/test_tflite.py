"""Laws of conversion: one signature a bucket, with the answers of the model it was made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from bundle.manifest import Profile
from finetune.errors import ModelError
from finetune.export import gate, tflite
from finetune.export.candidate import Candidate
from finetune.export.serving_model import ServingModel
from finetune.progress import Silent


@pytest.mark.parametrize("profile", ["float32", "float16", "dynamic_int8"])
def test_there_is_one_signature_a_bucket(converted: dict[Profile, bytes], profile: Profile) -> None:
    interpreter = Interpreter(model_content=converted[profile])
    assert interpreter.get_signature_list() == {
        f"tokens_{tokens}": {
            "inputs": ["attention_mask", "input_ids"],
            "outputs": ["logits"],
        }
        for tokens in (8, 16)
    }
    for tokens in (8, 16):
        details = interpreter.get_signature_runner(f"tokens_{tokens}").get_input_details()
        assert [detail["shape"].tolist() for detail in details.values()] == [[1, tokens]] * 2
        assert {detail["dtype"] for detail in details.values()} == {np.int32}


@pytest.mark.parametrize(
    ("profile", "tolerance"), [("float32", 1e-4), ("float16", 0.02), ("dynamic_int8", 0.5)]
)
def test_answers_are_the_models_on_every_bucket(
    converted: dict[Profile, bytes], candidate: Candidate, profile: Profile, tolerance: float
) -> None:
    preprocessor, test = candidate.task.preprocessor, candidate.data.test
    assert {preprocessor.bucket(len(ids)) for ids in test.ids} == {8, 16}
    model = gate.Quantized(converted[profile], preprocessor.spec)
    found = gate.run(model, candidate.task, test, Silent())
    np.testing.assert_allclose(found, candidate.result.logits, atol=tolerance)


def test_smaller_profiles_are_smaller(converted: dict[Profile, bytes]) -> None:
    sizes = {profile: len(model) for profile, model in converted.items()}
    assert sizes["dynamic_int8"] < sizes["float16"] < sizes["float32"]


def test_a_model_that_does_not_convert_is_named(candidate: Candidate) -> None:
    class Unconvertible:
        preprocessor = candidate.task.preprocessor

        def answer(self, model: Any, inputs: dict[str, Any]) -> Any:
            ids = tf.cast(inputs["input_ids"], tf.float32)
            return tf.linalg.svd(ids, compute_uv=False)[:, None] * model.scale

    task: Any = Unconvertible()
    inner = tf.Module()
    inner.scale = tf.Variable(1.0)
    with pytest.raises(ModelError, match="edge profile float32: the model does not convert: "):
        tflite.convert(ServingModel(task, inner), {"tokens_8": (8,)}, "float32")
