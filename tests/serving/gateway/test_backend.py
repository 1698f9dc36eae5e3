"""Laws of the backend's client: every status becomes one error of ours, and no address leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import numpy as np
import pytest

from serving.errors import (
    BackendFault,
    BackendUnavailable,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    UnknownModel,
)
from serving.gateway.backend import Backend
from serving.gateway.types import Deadline, ModelKey, Tensors

Code = grpc.StatusCode
ONE = {"input_ids": np.int32([[2, 9]]), "attention_mask": np.int32([[1, 1]])}


def use(address: str, action: Callable[[Backend], Coroutine[Any, Any, Any]]) -> Any:
    async def work() -> Any:
        backend = Backend(address, max_message_bytes=4 << 20)
        try:
            return await action(backend)
        finally:
            await backend.close()

    return asyncio.run(work())


def execute(serving: Any, version: int = 1, timeout_s: float = 10.0) -> Tensors:
    key, deadline = ModelKey("tiny", version), Deadline.after(timeout_s)
    outputs: Tensors = use(serving.address, lambda backend: backend.execute(key, ONE, deadline))
    return outputs


def test_tensors_go_there_and_come_back(serving: Any) -> None:
    logits = execute(serving)["logits"]
    assert logits.shape == (1, 2)
    assert logits.dtype == np.float32


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (Code.UNAVAILABLE, BackendUnavailable, "does not answer now"),
        (Code.CANCELLED, BackendUnavailable, "does not answer now"),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded, "no answer within 10.000 s"),
        (Code.NOT_FOUND, UnknownModel, "model 'tiny' version 1 is not served"),
        (Code.RESOURCE_EXHAUSTED, LimitExceeded, "over a limit: why$"),
        (Code.INVALID_ARGUMENT, InvalidArgument, "tensors: the model refuses them: why$"),
        (Code.INTERNAL, BackendFault, "the backend answers INTERNAL: why"),
        (Code.UNIMPLEMENTED, BackendFault, "UNIMPLEMENTED"),
        (Code.UNKNOWN, BackendFault, "UNKNOWN"),
    ],
)
def test_each_status_becomes_one_error(
    serving: Any, code: grpc.StatusCode, kind: type[Exception], message: str
) -> None:
    serving.fault = (code, "why\n\t{{node secret}}")
    with pytest.raises(kind, match=message) as caught:
        execute(serving)
    assert type(caught.value) is kind


def test_a_backend_that_is_not_there_is_unavailable_without_its_address(serving: Any) -> None:
    serving.stop()
    with pytest.raises(BackendUnavailable) as caught:
        execute(serving)
    assert str(serving.port) not in str(caught.value)


def test_a_deadline_that_has_passed_asks_nobody(serving: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        execute(serving, timeout_s=0)
    assert serving.left_s == []


def test_an_answer_that_is_no_tensor_is_the_backends_fault(serving: Any) -> None:
    serving.outputs = {"logits": {"dtype": 99}}
    with pytest.raises(BackendFault, match=r"outputs\['logits'\].dtype: is 99"):
        execute(serving)


def test_available_versions_are_those_it_says_and_none_for_an_unknown_model(serving: Any) -> None:
    serving.served["tiny"] = {3, 5}
    assert use(serving.address, lambda backend: backend.available("tiny")) == {3, 5}
    assert use(serving.address, lambda backend: backend.available("none")) == frozenset()
    serving.stop()
    with pytest.raises(BackendUnavailable):
        use(serving.address, lambda backend: backend.available("tiny"))
