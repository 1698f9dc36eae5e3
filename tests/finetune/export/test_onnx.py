"""Laws of the ONNX export: it answers as TensorFlow does for any shape, or it is not written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from bundle.repository import ModelRepository, SavedBundle
from finetune.errors import ExportError
from finetune.export import onnx as export
from finetune.progress import Silent


@pytest.fixture(scope="module")
def repository(published: Any, tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    root = tmp_path_factory.mktemp("onnx") / "models"
    shutil.copytree(published.models, root)
    return ModelRepository(root)


@pytest.fixture(scope="module")
def saved(repository: ModelRepository) -> SavedBundle:
    return repository.load("tiny")


@pytest.fixture(scope="module")
def path(repository: ModelRepository, saved: SavedBundle) -> Path:
    export.publish(repository, saved, Silent())
    return export.path_of(repository, "tiny", 1)


def test_the_file_answers_as_the_saved_model_does(path: Path, saved: SavedBundle) -> None:
    """Judged apart from the export's own judge, at shapes that it did not try."""
    session = onnxruntime.InferenceSession(path.read_bytes())
    serve = tf.saved_model.load(str(saved.path)).signatures["serving_default"]
    generator = np.random.default_rng(1)
    for batch, tokens in ((1, 1), (3, 5), (9, 16)):
        ids = generator.integers(4, 20, (batch, tokens), np.int32)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        (found,) = session.run(["logits"], inputs)
        outputs = serve(**{name: tf.constant(each) for name, each in inputs.items()})
        expected = outputs["logits"].numpy()
        # Sums in another order differ by a share of the largest value, as the gate has it.
        largest = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, atol=1e-5 * largest)


def test_names_and_open_sizes_are_those_of_the_manifest(path: Path, saved: SavedBundle) -> None:
    model = onnx.load(path)
    signature = saved.manifest.signatures["serving_default"]
    for values, specs in (
        (model.graph.input, signature.inputs),
        (model.graph.output, signature.outputs),
    ):
        assert [value.name for value in values] == [spec.name for spec in specs]
    names = [
        size.dim_param or size.dim_value
        for value in (*model.graph.input, *model.graph.output)
        for size in value.type.tensor_type.shape.dim
    ]
    assert names == ["batch", "tokens", "batch", "tokens", "batch", 2]
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert (told["name"], told["version"]) == ("tiny", "1")
    assert told["labels"] == '["negative", "positive"]'


def test_readers_of_the_repository_do_not_see_the_file(
    repository: ModelRepository, path: Path
) -> None:
    assert path.is_file()
    assert repository.versions("tiny") == [1]
    repository.load("tiny")


def test_an_operation_that_onnx_lacks_is_named(saved: SavedBundle, tmp_path: Path) -> None:
    """A version whose graph holds an operation without a counterpart."""

    class Odd(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.int32, name=name)
                for name in ("input_ids", "attention_mask")
            ]
        )
        def serve(self, input_ids: Any, attention_mask: Any) -> Any:
            values = tf.math.digamma(tf.cast(input_ids * attention_mask, tf.float32))
            return {"logits": tf.repeat(tf.reduce_sum(values, axis=1, keepdims=True), 2, axis=1)}

    model = Odd()
    folder = tmp_path / "1"
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.serve})
    (folder / "variables").mkdir(exist_ok=True)
    odd = SavedBundle(folder, msgspec.structs.replace(saved.manifest, name="odd"))
    with pytest.raises(ExportError, match=r"odd version 1: tf2onnx can't convert \['Digamma'\]"):
        export.convert(odd)


def test_weights_beyond_what_a_file_holds_are_refused(saved: SavedBundle, tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    with (tmp_path / "variables" / "variables.data-00000-of-00001").open("wb") as file:
        file.truncate(3 * 2**30)  # sparse: it takes no room
    large = SavedBundle(tmp_path, saved.manifest)
    expected = "tiny version 1: its weights are 3,221,225,472 bytes, an ONNX file holds"
    with pytest.raises(ExportError, match=expected):
        export.convert(large)
