"""TensorFlow Serving's PredictionService and ModelService, by their own messages.

Methods that are not here answer UNIMPLEMENTED, as the generated servicers do.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.backend.loader import DEFAULT_SIGNATURE, Servable
from serving.backend.manager import Manager, VersionStatus
from serving.errors import InvalidArgument, UnknownModel, status_of
from serving.tensors import encode_tfs

Context = grpc.ServicerContext

_SIGNATURE_DEF = "signature_def"  # the one metadata field there is
_MAX_DETAIL = 2000  # characters; gRPC sends them in a header, which it limits to 8 KiB

_log = logging.getLogger(__name__)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """Predict and GetModelMetadata."""

    def __init__(self, manager: Manager[Servable]) -> None:
        self._manager = manager

    def Predict(  # noqa: N802  # gRPC's name
        self, request: predict_pb2.PredictRequest, context: Context
    ) -> predict_pb2.PredictResponse:
        """Runs a signature of a model on the request's tensors."""
        with _answering(context), self._manager.lease(*_asked(request)) as lease:
            spec = request.model_spec
            outputs = lease.servable.predict(
                spec.signature_name, request.inputs, request.output_filter
            )
            response = predict_pb2.PredictResponse()
            _describe(response.model_spec, spec.name, lease.version)
            response.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
            for name, array in outputs.items():
                # The messages differ in their Python class alone.
                response.outputs[name].ParseFromString(encode_tfs(array).SerializeToString())
            return response

    def GetModelMetadata(  # noqa: N802  # gRPC's name
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Context
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Answers the signatures of a model as they are stored."""
        with _answering(context), self._manager.lease(*_asked(request)) as lease:
            _check_metadata_fields(request.metadata_field)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            _describe(response.model_spec, request.model_spec.name, lease.version)
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=lease.servable.definitions
            )
            response.metadata[_SIGNATURE_DEF].Pack(signatures)
            return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """GetModelStatus."""

    def __init__(self, manager: Manager[Servable]) -> None:
        self._manager = manager

    def GetModelStatus(  # noqa: N802  # gRPC's name
        self, request: get_model_status_pb2.GetModelStatusRequest, context: Context
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Answers the state of one or all versions of a model."""
        with _answering(context):
            name, version = _asked(request)
            known = self._manager.status(name)
            if not known:
                raise UnknownModel(f"Could not find any versions of model {name}")
            found = [status for status in known if version in {None, status.version}]
            if not found:
                raise UnknownModel(f"Could not find version {version} of model {name}")
            return get_model_status_pb2.GetModelStatusResponse(
                model_version_status=[_status(status) for status in found]
            )


@contextlib.contextmanager
def _answering(context: Context) -> Iterator[None]:
    """The one place where an error becomes a gRPC status."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # a caller sees a status, never a traceback
        code, message = status_of(error)
        if code is grpc.StatusCode.INTERNAL:
            _log.exception("request failed")
        context.abort(code, message[:_MAX_DETAIL])


def _asked(request: Any) -> tuple[str, int | None]:
    """Name and version that a request asks for; no version means the one that is served."""
    if not request.HasField("model_spec"):
        raise InvalidArgument("model_spec", "Missing ModelSpec; name a model")
    spec = request.model_spec
    if spec.HasField("version_label"):
        raise InvalidArgument(
            "model_spec.version_label", f"{spec.version_label!r} is unknown; use a version number"
        )
    return spec.name, spec.version.value if spec.HasField("version") else None


def _check_metadata_fields(fields: Any) -> None:
    if not fields:
        raise InvalidArgument("metadata_field", f"is empty; ask for {_SIGNATURE_DEF!r}")
    for field in fields:
        if field != _SIGNATURE_DEF:
            raise InvalidArgument(
                "metadata_field", f"{field!r} is not supported; ask for {_SIGNATURE_DEF!r}"
            )


def _describe(spec: Any, name: str, version: int) -> None:
    spec.name = name
    spec.version.value = version


def _status(status: VersionStatus) -> get_model_status_pb2.ModelVersionStatus:
    answer = get_model_status_pb2.ModelVersionStatus(
        version=status.version, state=int(status.state)
    )
    if status.error:
        answer.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
        answer.status.error_message = status.error
    return answer
