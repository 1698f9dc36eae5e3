"""Law: a published model of our family can write, as its manifest says; no other can."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from bundle.manifest import Generation
from finetune import pipeline
from finetune.export import generation, warmup
from finetune.export.candidate import Candidate
from finetune.progress import Silent
from finetune.recipe import Recipe

GOLDEN = Path(__file__).parents[1] / "deepseek" / "golden"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> pipeline.Outcome:
    folder = tmp_path_factory.mktemp("writer")
    base = Path(shutil.copytree(GOLDEN / "v3", folder / "base"))
    (base / "tokenizer.json").write_bytes(tokenizer_json)
    (folder / "text.txt").write_text("the film was very good but the plot was awful " * 9)
    recipe = Recipe.model_validate(
        {
            "name": "writer",
            "task": "text-generation",
            "base_model": str(base),
            "data": {
                **dict.fromkeys(("train", "dev", "test"), str(folder / "text.txt")),
                "buckets": [16],
                "batch_size": 4,
            },
            "schedule": {"epochs": 1},
            "precision": "mixed_bfloat16",
            "edge": {"profiles": []},
        }
    )
    return pipeline.run(recipe, models=folder / "m", runs=folder / "r", progress=Silent())


def test_the_published_model_writes_as_its_manifest_says(outcome: pipeline.Outcome) -> None:
    manifest = outcome.saved.manifest
    assert manifest.generation == Generation(positions=64, end_ids=(1,))
    assert list(manifest.signatures) == ["serving_default", "generate", "prefill", "decode"]
    serve = tf.saved_model.load(str(outcome.saved.path)).signatures["generate"]
    given: dict[str, Any] = {
        "input_ids": [[0, 5, 6]],
        "attention_mask": [[0, 1, 1]],
        "max_new_tokens": 5,
        "temperature": [0.0],
        "top_k": [0],
        "top_p": [1.0],
        "repetition_penalty": [1.0],
        "seed": [0],
    }
    inputs = {
        spec.name: tf.constant(np.asarray(given[spec.name], spec.dtype))
        for spec in manifest.signatures["generate"].inputs
    }
    found = serve(**inputs)
    assert found["tokens"].shape == (1, 5)
    assert {spec.name for spec in manifest.signatures["generate"].outputs} == set(found)


def test_a_server_is_warmed_up_for_each_signature(outcome: pipeline.Outcome) -> None:
    """TensorFlow Serving replays the file, so each of its requests must have an answer."""
    served = tf.saved_model.load(str(outcome.saved.path)).signatures
    path = outcome.saved.path / "assets.extra" / warmup.FILE_NAME
    names = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        names.append(request.model_spec.signature_name)
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert served[names[-1]](**{name: tf.constant(each) for name, each in inputs.items()})
    assert names == ["serving_default", "generate", "prefill", "decode"]


def test_a_classifier_writes_nothing(candidate: Candidate) -> None:
    assert generation.functions(candidate) == {}
    assert generation.described(candidate) == {}
    assert generation.record(candidate) is None
    assert generation.requests(candidate) == {}
