"""Laws of reading requests: what is valid is read, what isn't is one named error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import inference_pb2
from serving.errors import InvalidArgument
from serving.gateway.decoding import decode


@given(st.text(), st.lists(st.text(), max_size=4))
def test_every_valid_request_is_read(model: str, texts: list[str]) -> None:
    inputs = [inference_pb2.Input(text=text) for text in texts]
    request = inference_pb2.PredictRequest(model=model, inputs=inputs)
    assert decode(inference_pb2.PredictRequest, request.SerializeToString()) == request


@given(st.binary(max_size=60))
def test_no_bytes_make_another_error(data: bytes) -> None:
    with contextlib.suppress(InvalidArgument):
        decode(inference_pb2.PredictRequest, data)


MARK = "QQ"
BAD = b"\xff\xfe"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (inference_pb2.PredictRequest(model=MARK), "model"),
        (inference_pb2.PredictRequest(inputs=[{}, {"text": MARK}]), "inputs[1].text"),
        (
            inference_pb2.PredictRequest(inputs=[{"tensors": {"tensors": {"a": {}, MARK: {}}}}]),
            ".key",
        ),
        (inference_pb2.GetModelRequest(model=MARK), "model"),
    ],
)
def test_text_that_is_not_utf8_is_named_wherever_it_is(
    request_: inference_pb2.PredictRequest, field: str
) -> None:
    data = request_.SerializeToString().replace(MARK.encode(), BAD)
    with pytest.raises(InvalidArgument, match="is not valid UTF-8") as caught:
        decode(type(request_), data)
    assert caught.value.field.endswith(field)
