"""Law: a `model.tflite` answers as the model that it was made of, by the same names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backend import tflite
from serving.backend.config import BackendConfig, Loading
from serving.backend.servable import Servable
from serving.errors import InvalidArgument
from serving.tensors import encode_tfs


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of one signature: x [?, 2] → y = 2x, total [?]."""
    import tensorflow as tf

    class Twice(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": 2.0 * x, "total": tf.reduce_sum(x, 1)}

    model = Twice()
    folder = tmp_path_factory.mktemp("lite")
    tf.saved_model.save(model, str(folder / "saved"), {"serving_default": model.serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "model.tflite").write_bytes(converter.convert())
    return folder


@pytest.fixture(scope="module")
def servable(lite: Path) -> Servable:
    return tflite.load(lite, BackendConfig(models=lite))


def predict(servable: Servable, x: Any, signature: str = "") -> dict[str, Any]:
    return servable.predict(signature, {"x": encode_tfs(np.asarray(x, np.float32))})


def test_it_answers_by_its_signatures_names_whatever_the_number_of_rows(
    servable: Servable,
) -> None:
    for rows in (1, 3, 2):
        x = np.arange(2 * rows).reshape(rows, 2)
        outputs = predict(servable, x)
        assert outputs["y"].tolist() == (2 * x).tolist()
        assert outputs["total"].tolist() == x.sum(1).tolist()


def test_its_signatures_can_be_looked_at(servable: Servable) -> None:
    definition = servable.definitions["serving_default"]
    assert definition.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in definition.inputs["x"].tensor_shape.dim] == [-1, 2]
    assert definition.inputs["x"].dtype == 1


def test_what_does_not_fit_is_refused(servable: Servable) -> None:
    with pytest.raises(InvalidArgument, match=r"has shape \[1, 3\]; the model takes \[\?, 2\]"):
        predict(servable, [[1, 2, 3]])
    with pytest.raises(InvalidArgument, match="'no' is not there"):
        predict(servable, [[1, 2]], "no")


def test_many_callers_get_their_own_answers(servable: Servable) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda value: predict(servable, [[value, 0]])["y"], range(64)))
    assert [answer.tolist() for answer in answers] == [[[2.0 * value, 0]] for value in range(64)]


def test_a_version_that_has_one_is_served_by_it_only_if_that_is_preferred(
    lite: Path, publish_probe: Callable[..., Path], make_config: Callable[..., BackendConfig]
) -> None:
    from serving.backend.server import Backend

    config = make_config()
    path = publish_probe(config.models, 1)
    (path / "model.tflite").write_bytes((lite / "model.tflite").read_bytes())
    preferring = dataclasses.replace(config, loading=Loading(prefer_tflite=True))
    for each, names in ((config, {"y", "rows", "runs"}), (preferring, {"y", "total"})):
        with Backend(each) as backend, backend._manager.lease("probe") as lease:
            assert set(lease.servable.function("").signature.outputs) == names


def test_a_file_without_signatures_answers_by_its_tensors_names(lite: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, 2], tf.float32, name="x")])
    def serve(x: Any) -> Any:
        return tf.identity(x + 1.0, name="y")

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()])
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    servable = tflite.load(tmp_path, BackendConfig(models=tmp_path))
    signature = servable.function("").signature
    (name,) = signature.inputs
    outputs = servable.compute("", {name: np.float32([[1, 2]])})
    assert [each.tolist() for each in outputs.values()] == [[[2, 3]]]
