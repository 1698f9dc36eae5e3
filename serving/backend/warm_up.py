"""Replays the requests that came with a model, so that no caller meets it cold.

assets.extra/tf_serving_warmup_requests: a TFRecord of PredictionLog
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorflow_serving.apis import prediction_log_pb2

from serving.backend import examples
from serving.backend.servable import Servable
from serving.errors import InvalidArgument, LimitExceeded

FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000  # TensorFlow Serving's limit


def warm_up(servable: Servable, path: Path, records: Iterable[bytes], times: int = 1) -> None:
    """Asks a model what the records asked.

    Args:
        path: of the file, for messages.
        times: how often each.

    Raises:
        InvalidArgument: a request does not fit the model.
        LimitExceeded: there are too many of them.
    """
    for index, record in enumerate(records):
        if index == MAX_RECORDS:
            raise LimitExceeded(f"{path}: more than {index} warm-up requests; publish fewer")
        log = prediction_log_pb2.PredictionLog.FromString(record)
        try:
            for _ in range(times):
                _replay(servable, log)
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}[{index}].{error.field}", error.problem) from error


def _replay(servable: Servable, log: Any) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        servable.predict(request.model_spec.signature_name, request.inputs, request.output_filter)
    elif kind == "classify_log":
        request = log.classify_log.request
        examples.classify(servable, request.model_spec.signature_name, request.input)
    elif kind == "regress_log":
        request = log.regress_log.request
        examples.regress(servable, request.model_spec.signature_name, request.input)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        examples.infer(servable, request.tasks, request.input)
    else:  # the rest is of methods that no client has
        return
