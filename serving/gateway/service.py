"""The methods of `tensorseek.v1.Inference`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any

import grpc
from google.protobuf.message import Message

from bundle import manifest
from protos import inference_pb2
from serving.errors import InvalidArgument
from serving.gateway import bulk
from serving.gateway.call import Call, Origin
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.decoding import decode
from serving.gateway.endpoint import Endpoint, Method, Refused
from serving.gateway.generator import Generator
from serving.gateway.messages import read_inputs, read_wish, write_answer, write_piece
from serving.gateway.metrics import Metrics
from serving.gateway.predictor import Answer, Predictor
from serving.gateway.published import Model
from serving.gateway.request_log import RequestLog

NAME = inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name


_WINDOW = 8  # requests of one stream that are answered at once
_Request = (
    inference_pb2.PredictRequest | inference_pb2.GenerateRequest | inference_pb2.GetModelRequest
)


class Inference:
    """Reads requests, asks the predictor or the catalog, writes responses."""

    def __init__(
        self,
        catalog: Catalog,
        predictor: Predictor,
        generator: Generator,
        *,
        metrics: Metrics,
        request_log: RequestLog,
        config: GatewayConfig,
    ) -> None:
        self._catalog = catalog
        self._predictor = predictor
        self._generator = generator
        self._metrics = metrics
        self._log = request_log
        self._config = config

    async def predict(
        self, request: inference_pb2.PredictRequest, call: Call
    ) -> inference_pb2.PredictResponse:
        """Answers 1..`max_inputs` inputs.

        Raises:
            InvalidArgument: every input is wrong; the first one's error.
        """
        started = time.perf_counter()
        answer = await self._answer(request, call)
        if answer.refused:
            raise answer.refused
        return write_answer(request.model, answer, time.perf_counter() - started)

    async def predict_stream(
        self, requests: AsyncIterator[bytes], origin: Origin, endpoint: Endpoint
    ) -> AsyncGenerator[bytes, None]:
        """Answers requests as they come, in order, as serialized `PredictResponse`s."""

        async def answer(data: bytes) -> bytes:
            while True:
                try:  # it holds a place among the streams instead of one among the calls
                    return await endpoint.through(
                        "PredictStream",
                        origin,
                        lambda call: self._predict_each(data, call),
                        places=nullcontext(),
                    )
                except Refused as refused:
                    if refused.retry_after_s is None:
                        raise
                    await asyncio.sleep(refused.retry_after_s)  # a bulk caller is patient

        answers = bulk.in_order(
            requests, answer, window=_WINDOW, idle_s=self._config.idle_timeout_s
        )
        async with aclosing(answers):
            async for message in answers:
                yield message

    async def generate(self, data: bytes, call: Call) -> AsyncGenerator[bytes, None]:
        """Streams a text, as serialized `GenerateResponse`s."""
        call.inputs = 1
        request = decode(inference_pb2.GenerateRequest, data)
        model = self._model(request, call)
        pieces = self._generator.generate(model, read_wish(request), call.deadline)
        async with aclosing(pieces):
            async for piece in pieces:
                call.version = piece.version
                if piece.usage:
                    self._metrics.written(request.model, piece.usage)
                yield write_piece(piece).SerializeToString()

    async def list_models(
        self, _: inference_pb2.ListModelsRequest, call: Call
    ) -> inference_pb2.ListModelsResponse:
        """Every published model that the caller may ask, with the versions that can be asked."""
        names = filter(call.visitor.may_ask, self._catalog.names())
        return inference_pb2.ListModelsResponse(models=map(self._summary, names))

    async def get_model(
        self, request: inference_pb2.GetModelRequest, call: Call
    ) -> inference_pb2.GetModelResponse:
        """The manifest of a model that can be asked."""
        found = self._model(request, call).manifest
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
        methods["PredictStream"] = endpoint.bulk(
            lambda requests, origin: self.predict_stream(requests, origin, endpoint)
        )
        return grpc.method_handlers_generic_handler(NAME, methods)

    async def _answer(self, request: inference_pb2.PredictRequest, call: Call) -> Answer:
        call.inputs = len(request.inputs)
        model = self._model(request, call)
        inputs = read_inputs(request, self._config.max_inputs)
        swap = None if request.version or request.version_label else request.model
        answer = await self._predictor.predict(model, inputs, call, swap=swap)
        self._metrics.answered(request.model, answer)
        self._log.write(request.model, answer, inputs)
        return answer

    async def _predict_each(self, data: bytes, call: Call) -> bytes:
        started = time.perf_counter()
        request = decode(inference_pb2.PredictRequest, data)
        answer = await self._answer(request, call)
        response = write_answer(request.model, answer, time.perf_counter() - started)
        return response.SerializeToString()

    def _model(self, request: _Request, call: Call) -> Model:
        """The model that a request asks for, if its caller may.

        Raises:
            InvalidArgument: the version makes no sense.
            ServingError: it can't be asked, or not by this caller.
        """
        name, version, label = request.model, request.version, request.version_label
        call.visitor.check(name)
        if name in self._catalog:
            call.model = name
        if version < 0:
            raise InvalidArgument("version", f"is {version}; send 0 for the served one, or above")
        if version and label:
            raise InvalidArgument("version_label", f"is given beside version {version}; send one")
        model = self._catalog.find(name, version, label, call.request_key)
        call.version = model.key.version
        return model

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
