"""Laws of health and reflection: only what can be asked is SERVING, and watchers hear of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = HealthCheckResponse.SERVICE_UNKNOWN


@pytest.mark.parametrize("name", ["", "tiny"])
def test_watchers_hear_that_the_backend_goes_and_comes(
    channel: grpc.Channel, serving: Any, name: str
) -> None:
    states = HealthStub(channel).Watch(HealthCheckRequest(service=name), timeout=30)
    assert next(states).status == SERVING
    serving.stop()
    assert next(states).status == NOT_SERVING
    serving.start()
    assert next(states).status == SERVING


def test_a_model_the_backend_has_not_loaded_does_not_serve(
    make_config: Callable[..., Any],
    running: Callable[..., Any],
    serving: Any,
    models: Any,
    publish_plain: Callable[..., int],
) -> None:
    publish_plain(models, name="other")
    with (
        running(make_config()) as gateway,
        grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel,
    ):
        states = HealthStub(channel).Watch(HealthCheckRequest(service="other"), timeout=30)
        assert next(states).status == NOT_SERVING
        assert HealthStub(channel).Check(HealthCheckRequest()).status == SERVING
        serving.served["other"] = {1}
        assert next(states).status == SERVING


def test_an_unknown_name_is_not_found_and_can_be_watched_until_it_is_there(
    channel: grpc.Channel, serving: Any, models: Any, publish_plain: Callable[..., int]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        HealthStub(channel).Check(HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    states = HealthStub(channel).Watch(HealthCheckRequest(service="other"), timeout=30)
    assert next(states).status == SERVICE_UNKNOWN
    serving.served["other"] = {1}
    publish_plain(models, name="other")
    assert next(states).status in {NOT_SERVING, SERVING}


def test_a_gateway_that_drains_says_so_and_lets_its_watchers_go(
    make_config: Callable[..., Any], running: Callable[..., Any]
) -> None:
    with running(make_config()) as gateway:
        channel = grpc.insecure_channel(f"127.0.0.1:{gateway.port}")
        states = HealthStub(channel).Watch(HealthCheckRequest(), timeout=30)
        assert next(states).status == SERVING
    assert [state.status for state in states] == [NOT_SERVING]
    channel.close()


def test_reflection_lists_the_services_and_describes_ours(channel: grpc.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest
    ask = ServerReflectionStub(channel).ServerReflectionInfo
    listed, described = ask(
        iter(
            [
                request(list_services=""),
                request(file_containing_symbol="tensorseek.v1.Inference"),
            ]
        )
    )
    assert {service.name for service in listed.list_services_response.service} == {
        "tensorseek.v1.Inference",
        health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
        "grpc.reflection.v1alpha.ServerReflection",
    }
    (data,) = described.file_descriptor_response.file_descriptor_proto
    (service,) = FileDescriptorProto.FromString(data).service
    names = [method.name for method in service.method]
    assert names == ["Predict", "PredictStream", "Generate", "ListModels", "GetModel"]
