"""What each method of TensorFlow Serving's API means: its own messages in and out.

gRPC and HTTP are two ways to the same methods; both turn what is raised here into a status.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.backend import examples
from serving.backend.labels import Labels
from serving.backend.manager import Lease, Manager, VersionStatus
from serving.backend.servable import DEFAULT_SIGNATURE, Arrays, Servable
from serving.errors import InvalidArgument, UnknownModel
from serving.tensors import fill_tfs

_SIGNATURE_DEF = "signature_def"  # the one metadata field there is


class Api:
    """The methods over the loaded models.

    Args:
        reload: takes a ModelServerConfig as the list of models from now on.
        answer_values: see `BackendConfig`.
    """

    def __init__(
        self,
        manager: Manager[Servable],
        labels: Labels,
        reload: Callable[[Any], None],
        *,
        answer_values: bool,
    ) -> None:
        self._manager = manager
        self._labels = labels
        self._reload = reload
        self._answer_values = answer_values

    def predict(self, request: Any) -> Any:
        """Runs a signature of a model on the request's tensors."""
        with self.lease(request) as lease:
            spec = request.model_spec
            outputs = lease.servable.predict(
                spec.signature_name, request.inputs, request.output_filter
            )
            response = predict_pb2.PredictResponse()
            _describe(response.model_spec, spec, lease.version)
            self._fill(response.outputs, outputs)
            return response

    def classify(self, request: Any) -> Any:
        """Answers the classes of examples."""
        with self.lease(request) as lease:
            response = classification_pb2.ClassificationResponse()
            signature = request.model_spec.signature_name
            response.result.CopyFrom(examples.classify(lease.servable, signature, request.input))
            _describe(response.model_spec, request.model_spec, lease.version)
            return response

    def regress(self, request: Any) -> Any:
        """Answers a value for each example."""
        with self.lease(request) as lease:
            response = regression_pb2.RegressionResponse()
            signature = request.model_spec.signature_name
            response.result.CopyFrom(examples.regress(lease.servable, signature, request.input))
            _describe(response.model_spec, request.model_spec, lease.version)
            return response

    def multi_inference(self, request: Any) -> Any:
        """Answers several signatures of a model for the same examples."""
        if not request.tasks:
            raise InvalidArgument("tasks", "Inference request must contain at least one task")
        if any(task.model_spec.name != request.tasks[0].model_spec.name for task in request.tasks):
            raise InvalidArgument(
                "tasks",
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            )
        with self.lease(request.tasks[0]) as lease:
            results = examples.infer(lease.servable, request.tasks, request.input)
            for task, result in zip(request.tasks, results, strict=True):
                _describe(result.model_spec, task.model_spec, lease.version)
            return inference_pb2.MultiInferenceResponse(results=results)

    def metadata(self, request: Any) -> Any:
        """Answers the signatures of a model as they are stored."""
        _check_metadata_fields(request.metadata_field)
        with self.lease(request) as lease:
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = lease.version
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=lease.servable.definitions
            )
            response.metadata[_SIGNATURE_DEF].Pack(signatures)
            return response

    def status(self, request: Any) -> Any:
        """Answers the state of one or all versions of a model."""
        name, version = self._asked(request)
        known = self._manager.status(name)
        if not known:
            raise UnknownModel(f"Could not find any versions of model {name}")
        found = [status for status in known if version in {None, status.version}]
        if not found:
            raise UnknownModel(f"Could not find version {version} of model {name}")
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=[_status(status) for status in found]
        )

    def reload(self, request: Any) -> Any:
        """Serves another list of models, once what is new in it is loaded."""
        self._reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = grpc.StatusCode.OK.value[0]
        return response

    @contextlib.contextmanager
    def lease(self, request: Any) -> Iterator[Lease[Servable]]:
        """Takes the version that a request's `model_spec` asks for, while the `with` block runs.

        Raises:
            InvalidArgument: there is no `model_spec`, or its label is unknown.
            UnknownModel: there is no such model or version, or it is not loaded.
        """
        name, version = self._asked(request)
        if not name:
            raise InvalidArgument("model_spec", "ModelSpec has no name specified.")
        with self._manager.lease(name, version) as lease:
            yield lease

    def is_model(self, name: str) -> bool:
        """Whether a model of this name was ever looked at."""
        return bool(self._manager.status(name))

    def _asked(self, request: Any) -> tuple[str, int | None]:
        """Name and version that a request asks for; no version means the one that is served."""
        if not request.HasField("model_spec"):
            raise InvalidArgument("model_spec", "Missing ModelSpec; name a model")
        spec = request.model_spec
        if spec.HasField("version_label"):
            return spec.name, self._labels.version(spec.name, spec.version_label)
        return spec.name, spec.version.value if spec.HasField("version") else None

    def _fill(self, message: Any, outputs: Arrays) -> None:
        for name, array in outputs.items():
            fill_tfs(message[name], array, f"outputs[{name!r}]", as_values=self._answer_values)


def _check_metadata_fields(fields: Any) -> None:
    if not fields:
        raise InvalidArgument("metadata_field", f"is empty; ask for {_SIGNATURE_DEF!r}")
    for field in fields:
        if field != _SIGNATURE_DEF:
            raise InvalidArgument(
                "metadata_field", f"{field!r} is not supported; ask for {_SIGNATURE_DEF!r}"
            )


def _describe(spec: Any, asked: Any, version: int) -> None:
    spec.name = asked.name
    spec.version.value = version
    spec.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def _status(status: VersionStatus) -> Any:
    answer = get_model_status_pb2.ModelVersionStatus(
        version=status.version, state=int(status.state)
    )
    answer.status.SetInParent()  # also when all is well: error_code OK
    if status.error:
        answer.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
        answer.status.error_message = status.error
    return answer
