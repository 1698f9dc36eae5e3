"""Classify and Regress: serialized `tf.Example`s in, labels with scores or values out.

    Input{example_list}               ─► [n] bytes ─► "inputs" ─► "classes", "scores" [n, classes]
    Input{example_list_with_context}  ─►                       ─► "outputs" [n] or [n, 1]

The model's own graph parses the examples, by the features that it was saved with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from serving.backend.servable import DEFAULT_SIGNATURE, Arrays, Servable
from serving.backend.signature import Signature
from serving.errors import ConfigError, InvalidArgument
from serving.tensors import Array

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"

_INPUT = "inputs"
_CLASSES, _SCORES = "classes", "scores"
_VALUES = "outputs"
_KINDS = {_CLASSES: "O", _SCORES: "f"}  # NumPy's, of their dtypes


def classify(servable: Servable, signature_name: str, given: Any) -> Any:
    """Answers the classes of examples.

    Args:
        signature_name: empty for the default one.
        given: tensorflow.serving.Input.

    Returns:
        A ClassificationResult.

    Raises:
        InvalidArgument: there are no examples, or the model can't compute with them.
        ConfigError: the signature is not one of a classifier.
    """
    signature = servable.function(signature_name).signature
    _check_input(signature, "classification")
    if not 1 <= len(signature.outputs) <= 2:
        raise InvalidArgument(
            "Expected one or two output Tensors, found", str(len(signature.outputs))
        )
    if not {_CLASSES, _SCORES} & set(signature.outputs):
        raise ConfigError(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature.name}'
        )
    examples = _serialized(given)
    return _classifications(servable.compute(signature_name, {_INPUT: examples}), len(examples))


def regress(servable: Servable, signature_name: str, given: Any) -> Any:
    """Answers a value for each example; see `classify`.

    Returns:
        A RegressionResult.
    """
    signature = servable.function(signature_name).signature
    _check_input(signature, "regression")
    if len(signature.outputs) != 1:
        raise InvalidArgument("signature", "Expected one output Tensor.")
    if _VALUES not in signature.outputs:
        raise ConfigError(f"No regression outputs found in SignatureDef: {signature.name}")
    examples = _serialized(given)
    return _regressions(servable.compute(signature_name, {_INPUT: examples}), len(examples))


def infer(servable: Servable, tasks: Iterable[Any], given: Any) -> list[Any]:
    """Answers several signatures for the same examples.

    Args:
        tasks: tensorflow.serving.InferenceTask, of one model.

    Returns:
        An InferenceResult each, without its `model_spec`.

    Raises:
        InvalidArgument: a signature is asked twice, a task is neither classification nor
            regression, or does not fit; see `classify`.
    """
    asked: set[str] = set()
    results = []
    for task in tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in asked:
            raise InvalidArgument("Duplicate evaluation of signature", name)
        asked.add(name)
        result = inference_pb2.InferenceResult()
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(classify(servable, name, given))
        elif task.method_name == REGRESS:
            result.regression_result.CopyFrom(regress(servable, name, given))
        else:
            raise InvalidArgument("Unsupported signature method_name", task.method_name)
        results.append(result)
    return results


def _check_input(signature: Signature, kind: str) -> None:
    if len(signature.inputs) != 1:
        raise InvalidArgument("signature", "Expected one input Tensor.")
    if _INPUT not in signature.inputs:
        raise ConfigError(f"No {kind} inputs found in SignatureDef: {signature.name}")


def _serialized(given: Any) -> Array:
    """The examples as bytes, [n]; what all share stands before each, so it is part of each."""
    context = b""
    examples = given.example_list.examples
    if given.WhichOneof("kind") == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    if not examples:
        raise InvalidArgument("input", "Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def _classifications(outputs: Arrays, count: int) -> Any:
    """Labels and scores, [examples, classes] each; a model may answer one of them alone."""
    found = {name: outputs[name] for name in (_CLASSES, _SCORES) if name in outputs}
    for name, array in found.items():
        if array.ndim != 2 or len(array) != count or array.dtype.kind != _KINDS[name]:
            raise InvalidArgument(
                f"outputs[{name!r}]",
                f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}",
            )
    widths = {array.shape[1] for array in found.values()}
    if len(widths) > 1:
        raise InvalidArgument(
            "outputs", f"Tensors class and score should match in dim_size(1). Got {widths}"
        )
    (width,) = widths
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        labels = _texts(found[_CLASSES][row]) if _CLASSES in found else [""] * width
        scores = found[_SCORES][row].tolist() if _SCORES in found else [0.0] * width
        answer = result.classifications.add()
        for label, score in zip(labels, scores, strict=True):
            answer.classes.add(label=label, score=score)
    return result


def _texts(labels: Array) -> list[str]:
    """Labels as text, since the message has room for nothing else."""
    try:
        return [label.decode() for label in labels]
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"outputs[{_CLASSES!r}]", f"holds a label that is no UTF-8: {error}"
        ) from error


def _regressions(outputs: Arrays, count: int) -> Any:
    values = outputs[_VALUES]
    if values.shape not in {(count,), (count, 1)} or values.dtype != np.float32:
        raise InvalidArgument(
            f"outputs[{_VALUES!r}]",
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {list(values.shape)}",
        )
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result
