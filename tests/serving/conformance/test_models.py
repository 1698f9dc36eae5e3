"""Law: the list of models can be asked and replaced, and a wrong one changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

WAIT_S = 30.0
AVAILABLE = 30


def status(stubs: Any, name: str = "half_plus_two", version: int | None = None) -> dict[int, int]:
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    found = stubs.model.GetModelStatus(request, WAIT_S).model_version_status
    return {each.version: each.state for each in found}


def reload(stubs: Any, text: str) -> Any:
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_management_pb2

    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return stubs.model.HandleReloadConfigRequest(request, WAIT_S)


def answer(stubs: Any, model: str, label: str = "") -> tuple[int, list[float]]:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    if label:
        request.model_spec.version_label = label
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(1, np.float32)))
    response = stubs.prediction.Predict(request, WAIT_S)
    return response.model_spec.version.value, tf.make_ndarray(response.outputs["y"]).tolist()


@pytest.fixture
def replaced(stubs: Any, list_of_models: str) -> Iterator[Callable[[str], Any]]:
    """Replaces the list of models, and puts the first one back at the end."""
    yield lambda text: reload(stubs, text)
    reload(stubs, list_of_models)


def test_every_version_of_a_model_has_its_state(stubs: Any) -> None:
    assert status(stubs) == {1: AVAILABLE, 2: AVAILABLE}
    assert status(stubs, version=1) == {1: AVAILABLE}


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("nobody", None, "Could not find any versions of model nobody"),
        ("half_plus_two", 9, "Could not find version 9 of model half_plus_two"),
    ],
)
def test_what_is_not_there_has_no_state(
    stubs: Any, name: str, version: int | None, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        status(stubs, name, version)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert message in caught.value.details()


def test_a_new_list_adds_models_and_takes_others_away(
    stubs: Any, served: Any, replaced: Callable[[str], Any]
) -> None:
    response = replaced(f"""model_config_list {{
      config {{ name: "half_plus_two" base_path: "{served.models}/half_plus_two"
               model_platform: "tensorflow" model_version_policy {{ all {{}} }} }}
      config {{ name: "another" base_path: "{served.models}/half_plus_two"
               model_platform: "tensorflow"
               model_version_policy {{ latest {{ num_versions: 1 }} }} }}
    }}""")
    assert response.status.error_code == 0
    assert answer(stubs, "another") == (2, [3.5])
    assert status(stubs, "another") == {2: AVAILABLE}
    assert answer(stubs, "half_plus_two") == (2, [3.5])


def test_labels_move_with_the_list(
    stubs: Any, list_of_models: str, replaced: Callable[[str], Any]
) -> None:
    assert answer(stubs, "half_plus_two", "stable") == (1, [2.5])
    replaced(list_of_models.replace('"stable" value: 1', '"stable" value: 2'))
    assert answer(stubs, "half_plus_two", "stable") == (2, [3.5])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"stable" value: 1', '"stable" value: 9', "assign label to version 9 of model half"),
        ('name: "pair"', 'name: "half_plus_two"', "half_plus_two multiple times in config list"),
        ('model_platform: "tensorflow"', "", ""),
    ],
)
def test_a_wrong_list_changes_nothing(
    stubs: Any, list_of_models: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        reload(stubs, list_of_models.replace(old, new))
    assert caught.value.code() in {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
    assert message in caught.value.details()
    assert answer(stubs, "half_plus_two", "stable") == (1, [2.5])
