"""Laws of the SavedModel: it answers as the trained model, and its manifest tells the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from bundle import golden, integrity
from bundle.repository import SavedBundle
from finetune import recipe
from finetune.export.candidate import Candidate


@pytest.fixture(scope="module")
def saved(published: Any) -> SavedBundle:
    return published.outcome.saved


@pytest.fixture(scope="module")
def serve(saved: SavedBundle) -> Any:
    """The signature, as TensorFlow Serving loads it: without any code of ours."""
    signature = tf.saved_model.load(str(saved.path)).signatures["serving_default"]

    def call(tensors: Any) -> NDArray[np.float32]:
        inputs = {name: tf.constant(values) for name, values in tensors.items()}
        return np.asarray(signature(**inputs)["logits"])

    return call


@pytest.mark.parametrize("bucket", [8, 16])
def test_it_answers_as_the_trained_model(serve: Any, candidate: Candidate, bucket: int) -> None:
    preprocessor, test = candidate.task.preprocessor, candidate.data.test
    picks = [index for index, ids in enumerate(test.ids) if preprocessor.bucket(len(ids)) == bucket]
    found = serve(preprocessor.pad([test.ids[index] for index in picks]))
    np.testing.assert_allclose(found, candidate.result.logits[picks], atol=1e-4)


def test_one_text_is_answered_as_in_a_batch(serve: Any, candidate: Candidate) -> None:
    preprocessor, ids = candidate.task.preprocessor, candidate.data.test.ids[:4]
    batch = serve(preprocessor.pad(ids))
    for row, one in zip(batch, ids, strict=True):
        np.testing.assert_allclose(serve(preprocessor.pad([one]))[0], row, atol=1e-4)


def test_its_golden_examples_are_answered_by_it(
    serve: Any, saved: SavedBundle, candidate: Candidate
) -> None:
    examples = golden.decode(saved.read(golden.FILE_NAME), "golden")
    preprocessor = candidate.task.preprocessor
    assert golden.check(examples, lambda text: serve(preprocessor([text]))[0], "it") < 1e-3
    assert len(examples.texts) == 8


def test_the_manifest_describes_the_signature(saved: SavedBundle) -> None:
    loaded = tf.saved_model.load(str(saved.path)).signatures["serving_default"]
    described = saved.manifest.signatures["serving_default"]
    inputs = loaded.structured_input_signature[1]
    for spec, tensor in [
        *((spec, inputs[spec.name]) for spec in described.inputs),
        *((spec, loaded.structured_outputs[spec.name]) for spec in described.outputs),
    ]:
        assert (spec.dtype, spec.shape) == (tensor.dtype.name, tuple(tensor.shape))
    assert len(inputs) == len(described.inputs) == 2


def test_the_manifest_lists_every_other_file(saved: SavedBundle) -> None:
    listed = {**saved.manifest.files}
    found = integrity.digest_folder(saved.path)
    found.pop("assets.extra/manifest.json")
    assert listed == found
    assert {
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "assets.extra/tokenizer.json",
        "assets.extra/golden.json",
        "assets.extra/MODEL_CARD.md",
        "assets.extra/tf_serving_warmup_requests",
    } <= listed.keys()


def test_the_manifest_tells_how_good_the_model_is(saved: SavedBundle, candidate: Candidate) -> None:
    metric = saved.manifest.metrics["accuracy"]
    assert metric == candidate.result.metrics(candidate.data.test_sha256)["accuracy"]
    assert 0.9 < metric.value < 1
    assert metric.n == 96


def test_the_manifest_tells_where_the_model_comes_from(
    saved: SavedBundle, candidate: Candidate
) -> None:
    provenance = saved.manifest.provenance
    job = candidate.recipe.identity(candidate.task.base_model_sha256, candidate.data.sha256)
    assert provenance.recipe_sha256 == job
    assert recipe.parse(provenance.recipe, "manifest") == candidate.recipe
    assert provenance.base_model_sha256 == candidate.task.base_model_sha256
    assert provenance.data_sha256 == candidate.data.sha256
    assert provenance.packages["tensorflow"] == tf.__version__
    assert provenance.parent_version is None
    assert len(provenance.git_commit or "0" * 40) == 40


def test_the_tokenizer_is_the_base_models(saved: SavedBundle, tiny_base: Path) -> None:
    assert saved.read("tokenizer.json") == (tiny_base / "tokenizer.json").read_bytes()
    assert json.loads(saved.read("tokenizer.json"))["model"]["type"] == "WordLevel"
