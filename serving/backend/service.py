"""TensorFlow Serving's PredictionService and ModelService over gRPC."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.backend.api import Api
from serving.backend.metrics import Metrics
from serving.errors import status_of

Context = grpc.ServicerContext

_MAX_DETAIL = 2000  # characters; gRPC sends them in a header, which it limits to 8 KiB

_log = logging.getLogger(__name__)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """The methods that ask a model."""

    def __init__(self, api: Api, metrics: Metrics) -> None:
        self._api = api
        self._metrics = metrics

    def Predict(self, request: Any, context: Context) -> Any:  # noqa: N802  # gRPC's name
        """Runs a signature of a model on the request's tensors."""
        return self._answer("Predict", self._api.predict, request, context)

    def Classify(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Answers the classes of examples."""
        return self._answer("Classify", self._api.classify, request, context)

    def Regress(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Answers a value for each example."""
        return self._answer("Regress", self._api.regress, request, context)

    def MultiInference(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Answers several signatures of a model for the same examples."""
        return self._answer("MultiInference", self._api.multi_inference, request, context)

    def GetModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Answers the signatures of a model as they are stored."""
        return self._answer("GetModelMetadata", self._api.metadata, request, context)

    def _answer(
        self, name: str, method: Callable[[Any], Any], request: Any, context: Context
    ) -> Any:
        model = _model(request)
        if not context.is_active():
            return None  # its caller gave up while it waited: nobody hears an answer
        with answering(context), self._metrics.measured(model, name, "GRPC"):
            return method(request)


def _model(request: Any) -> str:
    """The model that a request is for; every task of a MultiInferenceRequest is for the same."""
    asks = request.tasks[:1] if hasattr(request, "tasks") else [request]
    return asks[0].model_spec.name if asks else ""


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """The methods that ask about models, and change which there are."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def GetModelStatus(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Answers the state of one or all versions of a model."""
        with answering(context):
            return self._api.status(request)

    def HandleReloadConfigRequest(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Serves another list of models."""
        with answering(context):
            return self._api.reload(request)


@contextlib.contextmanager
def answering(context: Context) -> Iterator[None]:
    """The one place where an error becomes a gRPC status."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # a caller sees a status, never a traceback
        code, message = status_of(error)
        if code is grpc.StatusCode.INTERNAL:
            _log.exception("request failed")
        context.abort(code, message[:_MAX_DETAIL])
