"""Law: what does not fit the model is refused before it runs, and the message names the input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protos import tfs_pb2
from serving.backend.signature import Signature, TensorSpec
from serving.errors import InvalidArgument
from serving.tensors import encode_tfs

MAX_BYTES = 1 << 20
INT32, FLOAT, STRING = tfs_pb2.DT_INT32, tfs_pb2.DT_FLOAT, tfs_pb2.DT_STRING


def spec(dtype: int, *shape: int | None) -> TensorSpec:
    return TensorSpec(dtype=dtype, shape=shape)


TEXT = Signature(
    name="serving_default",
    inputs={"ids": spec(INT32, None, None), "mask": spec(INT32, None, 4)},
    outputs={"logits": spec(FLOAT, None, 2), "pooled": spec(FLOAT, None, 8)},
)


def protos(**arrays: Any) -> dict[str, Any]:
    return {name: encode_tfs(np.asarray(array)) for name, array in arrays.items()}


def ones(*shape: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.ones(shape, np.int32)


def test_inputs_that_fit_are_decoded_in_the_signatures_order() -> None:
    read = TEXT.read(protos(mask=ones(2, 4), ids=3 * ones(2, 4)), MAX_BYTES)
    assert list(read) == ["ids", "mask"]
    np.testing.assert_array_equal(read["ids"], 3 * ones(2, 4))


@pytest.mark.parametrize(
    ("sent", "field", "problem"),
    [
        (
            protos(ids=ones(1, 4)),
            "mask",
            "is missing; signature 'serving_default' takes: ids, mask",
        ),
        (protos(ids=ones(1, 4), mask=ones(1, 4), more=ones(1)), "more", "is not an input"),
        (
            protos(ids=np.ones((1, 4), np.float32), mask=ones(1, 4)),
            "ids",
            "has dtype DT_FLOAT; the model takes DT_INT32",
        ),
        (protos(ids=ones(4), mask=ones(4, 4)), "ids", "has shape [4]; the model takes [?, ?]"),
        (
            protos(ids=ones(1, 4), mask=ones(1, 5)),
            "mask",
            "has shape [1, 5]; the model takes [?, 4]",
        ),
        (protos(ids=ones(2, 4), mask=ones(3, 4)), "mask", 'has 3 rows, inputs["ids"] has 2'),
    ],
    ids=["missing", "unexpected", "dtype", "rank", "size", "ragged batch"],
)
def test_what_does_not_fit_is_refused_by_name(
    sent: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        TEXT.read(sent, MAX_BYTES)
    assert caught.value.field == f'inputs["{field}"]'
    assert problem in caught.value.problem


def test_an_unknown_dtype_number_is_refused_like_a_wrong_one() -> None:
    proto = tfs_pb2.TensorProto()
    proto.MergeFromString(b"\x08\x63")  # dtype: 99
    with pytest.raises(InvalidArgument, match="has dtype number 99; the model takes DT_INT32"):
        TEXT.read({"ids": proto, "mask": proto}, MAX_BYTES)


def test_a_length_of_content_that_lies_is_refused() -> None:
    sent = protos(ids=ones(1, 4), mask=ones(1, 4))
    sent["ids"].tensor_content += b"\0"
    with pytest.raises(InvalidArgument, match=r'inputs\["ids"\].*has 17 bytes.*needs 16'):
        TEXT.read(sent, MAX_BYTES)


@pytest.mark.parametrize("dtype", [FLOAT, STRING])
def test_a_few_bytes_that_stand_for_many_are_refused(dtype: int) -> None:
    signature = Signature(name="s", inputs={"x": spec(dtype, None)}, outputs={})
    proto = tfs_pb2.TensorProto(dtype=dtype)  # type: ignore[arg-type]
    proto.tensor_shape.dim.add(size=1 << 19)
    if dtype == STRING:
        proto.string_val.append(b"x" * 100)
    else:
        proto.float_val.append(1)
    with pytest.raises(InvalidArgument, match=rf'inputs\["x"\]: takes \d+ bytes; .* {MAX_BYTES}'):
        signature.read({"x": proto}, MAX_BYTES)


def test_a_filter_chooses_outputs_and_none_means_all() -> None:
    assert TEXT.choose([]) == ["logits", "pooled"]
    assert TEXT.choose(["pooled"]) == ["pooled"]
    with pytest.raises(InvalidArgument, match=r"output_filter\[1\]: 'no' .* has: logits, pooled"):
        TEXT.choose(["logits", "no"])


@pytest.mark.parametrize(
    ("inputs", "outputs", "batchable"),
    [
        ([(None, None)], [(None,)], True),
        ([(None, None), (None,)], [(None, 2)], True),
        ([(None, None), ()], [(None,)], False),
        ([(1, None)], [(None,)], False),
        ([(None,)], [()], False),
        ([(None,)], [None], False),
        ([], [(None,)], False),
    ],
)
def test_only_signatures_that_are_per_row_throughout_may_be_merged(
    inputs: list[Any], outputs: list[Any], batchable: bool
) -> None:
    def specs(shapes: list[Any]) -> dict[str, TensorSpec]:
        return {f"t{n}": TensorSpec(dtype=FLOAT, shape=shape) for n, shape in enumerate(shapes)}

    signature = Signature(name="s", inputs=specs(inputs), outputs=specs(outputs))
    assert signature.batchable is batchable


def test_inputs_of_a_signature_that_is_not_per_row_may_differ_in_rows() -> None:
    signature = Signature(
        name="s",
        inputs={"a": spec(INT32, None), "b": spec(INT32, None)},
        outputs={"sum": spec(INT32)},
    )
    assert signature.read(protos(a=ones(2), b=ones(3)), MAX_BYTES).keys() == {"a", "b"}


def test_a_tensor_of_unknown_rank_takes_any_shape() -> None:
    assert all(TensorSpec(dtype=FLOAT, shape=None).fits(shape) for shape in [(), (1,), (2, 3)])
