"""Law: Classify, Regress and MultiInference take `tf.Example`s and answer as TensorFlow Serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

WAIT_S = 30.0
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
TASK = ("regress_x_to_y", REGRESS)


def fill(given: Any, *values: float) -> Any:
    for value in values:
        given.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return given


def classify(signature: str, *values: float, model: str = "half_plus_two") -> Any:
    from tensorflow_serving.apis import classification_pb2

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    fill(request.input, *values)
    return request


def regress(signature: str, *values: float) -> Any:
    from tensorflow_serving.apis import regression_pb2

    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "half_plus_two"
    request.model_spec.signature_name = signature
    fill(request.input, *values)
    return request


def infer(*tasks: tuple[str, str], values: tuple[float, ...] = (1.0,)) -> Any:
    from tensorflow_serving.apis import inference_pb2

    request = inference_pb2.MultiInferenceRequest()
    for signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = "half_plus_two"
        task.model_spec.signature_name = signature
    fill(request.input, *values)
    return request


def test_regress_answers_a_value_for_each_example(stubs: Any) -> None:
    response = stubs.prediction.Regress(regress("regress_x_to_y", 1, 2), WAIT_S)
    assert [item.value for item in response.result.regressions] == [3.5, 4.0]
    spec = response.model_spec
    assert (spec.name, spec.version.value) == ("half_plus_two", 2)
    assert spec.signature_name == "regress_x_to_y"


def test_classify_answers_scores_and_labels_where_there_are_any(stubs: Any) -> None:
    def classes(signature: str) -> list[list[tuple[str, float]]]:
        response = stubs.prediction.Classify(classify(signature, 1, 2), WAIT_S)
        return [
            [(item.label, item.score) for item in each.classes]
            for each in response.result.classifications
        ]

    assert classes("classify_x_to_y") == [[("", 3.5)], [("", 4.0)]]
    assert classes("classify_sign") == [
        [("negative", -3.5), ("positive", 3.5)],
        [("negative", -4.0), ("positive", 4.0)],
    ]


def test_what_examples_share_stands_in_each_of_them(stubs: Any) -> None:
    request = regress("regress_x_to_y")
    shared = request.input.example_list_with_context
    shared.context.features.feature["x"].float_list.value.append(4.0)
    for _ in range(2):
        shared.examples.add()
    response = stubs.prediction.Regress(request, WAIT_S)
    assert [item.value for item in response.result.regressions] == [5.0, 5.0]


def test_several_signatures_are_answered_for_the_same_examples(stubs: Any) -> None:
    tasks = (("classify_sign", CLASSIFY), ("regress_x_to_y", REGRESS))
    classes, values = stubs.prediction.MultiInference(infer(*tasks), WAIT_S).results
    assert classes.model_spec.signature_name == "classify_sign"
    (answer,) = classes.classification_result.classifications
    assert [item.label for item in answer.classes] == ["negative", "positive"]
    (item,) = values.regression_result.regressions
    assert item.value == 3.5


@pytest.mark.parametrize(
    ("method", "make", "code"),
    [
        ("Regress", lambda: regress("regress_x_to_y"), INVALID),  # no examples
        ("Regress", lambda: regress("nobody", 1), INVALID),
        ("Classify", lambda: classify("classify_sign"), INVALID),
        ("Classify", lambda: classify("classify_sign", 1, model="nobody"), NOT_FOUND),
        ("MultiInference", lambda: infer(TASK, values=()), INVALID),
        ("MultiInference", lambda: infer(TASK, TASK), INVALID),  # asked twice
    ],
)
def test_what_is_wrong_has_its_status(
    stubs: Any, method: str, make: Callable[[], Any], code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stubs.prediction, method)(make(), WAIT_S)
    assert caught.value.code() is code


def test_an_example_without_the_models_feature_is_the_callers_fault(stubs: Any) -> None:
    request = regress("regress_x_to_y")
    request.input.example_list.examples.add().features.feature["z"].int64_list.value.append(1)
    with pytest.raises(grpc.RpcError) as caught:
        stubs.prediction.Regress(request, WAIT_S)
    assert caught.value.code() is INVALID
    assert "x" in caught.value.details()
