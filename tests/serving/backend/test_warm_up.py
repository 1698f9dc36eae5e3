"""Law: what came with a model has run before the first caller; what does not fit is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.backend.servable import Function, Servable
from serving.backend.signature import Signature, TensorSpec
from serving.backend.warm_up import MAX_RECORDS, warm_up
from serving.errors import InvalidArgument, LimitExceeded
from serving.tensors import dtype_number

FILE = Path("warm_up")
Request = Callable[..., Any]


class Counted:
    """A servable that answers the length of strings in all three ways, and counts its runs."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        text = TensorSpec(dtype=dtype_number(np.dtype(object)), shape=(None,))
        number = TensorSpec(dtype=dtype_number(np.dtype("float32")), shape=(None, None))
        functions: Mapping[str, Function] = {
            name: Function(
                Signature(name=name, inputs={"inputs": text}, outputs={output: number}),
                lambda arrays, name=name: self._run(name, arrays),  # type: ignore[misc]
                None,
            )
            for name, output in (
                ("serving_default", "y"),
                ("classify", "scores"),
                ("regress", "outputs"),
            )
        }
        self.servable = Servable(functions, {}, 1 << 20)

    def _run(self, name: str, arrays: Any) -> Any:
        self.runs.append(name)
        return [np.array([[len(text)] for text in arrays[0]], np.float32)]


def log(kind: str, signature: str = "") -> bytes:
    from tensorflow_serving.apis import prediction_log_pb2

    made = prediction_log_pb2.PredictionLog()
    request = getattr(made, f"{kind}_log").request
    request.model_spec.signature_name = signature
    request.input.example_list.examples.add()
    return made.SerializeToString()


def test_requests_of_every_method_are_replayed_as_often_as_asked(
    predict_request: Request,
) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    predict = prediction_log_pb2.PredictionLog()
    predict.predict_log.request.CopyFrom(predict_request(inputs=np.array([b"a"], object)))
    both = prediction_log_pb2.PredictionLog()
    for name in ("classify", "regress"):
        task = both.multi_inference_log.request.tasks.add()
        task.method_name = f"tensorflow/serving/{name}"
        task.model_spec.signature_name = name
    both.multi_inference_log.request.input.example_list.examples.add()
    other = prediction_log_pb2.PredictionLog()
    other.session_run_log.request.feed.add()  # no client has that method
    counted = Counted()
    records = [
        predict.SerializeToString(),
        log("classify", "classify"),
        log("regress", "regress"),
        both.SerializeToString(),
        other.SerializeToString(),
    ]
    warm_up(counted.servable, FILE, records, times=2)
    assert counted.runs == [
        *["serving_default"] * 2,
        *["classify"] * 2,
        *["regress"] * 2,
        *["classify", "regress"] * 2,
    ]


def test_a_request_that_does_not_fit_is_named(predict_request: Request) -> None:
    from tensorflow_serving.apis import prediction_log_pb2

    wrong = prediction_log_pb2.PredictionLog()
    wrong.predict_log.request.CopyFrom(predict_request(z=np.float32([1])))
    records = [log("regress", "regress"), wrong.SerializeToString()]
    with pytest.raises(InvalidArgument, match=r'^warm_up\[1\].inputs\["inputs"\]: is missing'):
        warm_up(Counted().servable, FILE, records)


def test_too_many_requests_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="more than 1000 warm-up requests"):
        warm_up(Counted().servable, FILE, [log("regress", "regress")] * (MAX_RECORDS + 1))
