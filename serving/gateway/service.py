"""The methods of `tensorseek.v1.Inference`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message

from bundle import manifest
from protos import inference_pb2
from serving.errors import InvalidArgument
from serving.gateway.catalog import Catalog
from serving.gateway.decoding import decode
from serving.gateway.endpoint import Call, Endpoint, Method
from serving.gateway.generator import Generator
from serving.gateway.messages import read_inputs, read_wish, write_answer, write_piece
from serving.gateway.metrics import Metrics
from serving.gateway.predictor import Predictor

NAME = inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name


class Inference:
    """Reads requests, asks the predictor or the catalog, writes responses.

    Args:
        max_inputs: in one call.
    """

    def __init__(
        self,
        catalog: Catalog,
        predictor: Predictor,
        generator: Generator,
        metrics: Metrics,
        max_inputs: int,
    ) -> None:
        self._catalog = catalog
        self._predictor = predictor
        self._generator = generator
        self._metrics = metrics
        self._max_inputs = max_inputs

    async def predict(
        self, request: inference_pb2.PredictRequest, call: Call
    ) -> inference_pb2.PredictResponse:
        """Answers 1..`max_inputs` inputs."""
        started = time.perf_counter()
        call.inputs = len(request.inputs)
        self._check_model(request.model, request.version, call)
        inputs = read_inputs(request, self._max_inputs)
        answer = await self._predictor.predict(
            request.model, request.version, inputs, call.deadline
        )
        call.version = answer.version
        self._metrics.answered(request.model, answer)
        return write_answer(request.model, answer, time.perf_counter() - started)

    async def generate(self, data: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """Streams a text, as serialized `GenerateResponse`s."""
        call.inputs = 1
        request = decode(inference_pb2.GenerateRequest, data)
        self._check_model(request.model, request.version, call)
        pieces = self._generator.generate(
            request.model, request.version, read_wish(request), call.deadline
        )
        async with aclosing(pieces):
            async for piece in pieces:
                call.version = piece.version
                if piece.usage:
                    self._metrics.written(request.model, piece.usage)
                yield write_piece(piece).SerializeToString()

    async def list_models(
        self, _: inference_pb2.ListModelsRequest, __: Call
    ) -> inference_pb2.ListModelsResponse:
        """Every published model, with the versions that can be asked."""
        return inference_pb2.ListModelsResponse(models=map(self._summary, self._catalog.names()))

    async def get_model(
        self, request: inference_pb2.GetModelRequest, call: Call
    ) -> inference_pb2.GetModelResponse:
        """The manifest of a model that can be asked."""
        self._check_model(request.model, request.version, call)
        found = self._catalog.find(request.model, request.version).manifest
        call.version = found.version
        return inference_pb2.GetModelResponse(
            name=found.name,
            version=found.version,
            task=found.task,
            labels=found.labels,
            manifest_json=manifest.encode(found).decode(),
        )

    def handlers(self, endpoint: Endpoint) -> grpc.GenericRpcHandler[Any, Any]:
        """The service as gRPC's server takes it."""
        answers = {
            "Predict": _on_bytes(self.predict, inference_pb2.PredictRequest),
            "ListModels": _on_bytes(self.list_models, inference_pb2.ListModelsRequest),
            "GetModel": _on_bytes(self.get_model, inference_pb2.GetModelRequest),
        }
        methods = {name: endpoint.unary(name, answer) for name, answer in answers.items()}
        methods["Generate"] = endpoint.stream("Generate", self.generate)
        return grpc.method_handlers_generic_handler(NAME, methods)

    def _check_model(self, name: str, version: int, call: Call) -> None:
        if name in self._catalog:
            call.model = name
        if version < 0:
            raise InvalidArgument("version", f"is {version}; send 0 for the served one, or above")

    def _summary(self, name: str) -> inference_pb2.ModelSummary:
        return inference_pb2.ModelSummary(
            name=name,
            task=self._catalog.task(name),
            versions=self._catalog.versions(name),
            serving_version=self._catalog.serving(name),
        )


def _on_bytes(method: Callable[[Any, Call], Awaitable[Message]], kind: type[Message]) -> Method:
    """A method that reads its own request, so that one it can't read is an error like another."""

    async def answer(data: bytes, call: Call) -> bytes:
        response = await method(decode(kind, data), call)
        return response.SerializeToString()

    return answer
