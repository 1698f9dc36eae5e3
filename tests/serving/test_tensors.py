"""Laws of the tensor messages: what goes in comes out, and no message makes a wrong array."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protos import inference_pb2, tfs_pb2
from serving import tensors
from serving.errors import InvalidArgument

NUMBERS = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
UNSIGNED = ("uint16", "uint32", "uint64")  # of TensorFlow alone

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numbers = st.sampled_from(NUMBERS).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
strings = shapes.flatmap(
    lambda shape: st.lists(
        st.binary(max_size=5), min_size=math.prod(shape), max_size=math.prod(shape)
    ).map(lambda values: objects(values).reshape(shape))
)


def objects(values: list[bytes]) -> NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def same(left: NDArray[Any], right: NDArray[Any]) -> None:
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.tolist() == right.tolist() or left.tobytes() == right.tobytes()  # NaN


@given(numbers | strings)
def test_both_messages_bring_every_array_back_through_bytes(array: NDArray[Any]) -> None:
    tfs = tfs_pb2.TensorProto.FromString(tensors.encode_tfs(array).SerializeToString())
    own = inference_pb2.Tensor.FromString(tensors.encode(array).SerializeToString())
    same(tensors.decode_tfs(tfs), array)
    same(tensors.decode(own), array)


@given(numbers)
def test_layout_and_byte_order_in_memory_do_not_reach_the_wire(array: NDArray[Any]) -> None:
    plain = tensors.encode(array).data
    swapped = array.astype(array.dtype.newbyteorder(">"))
    assert tensors.encode(np.asfortranarray(swapped)).data == plain
    assert plain == array.astype(array.dtype.newbyteorder("<")).tobytes()


@given(numbers | strings | st.sampled_from(UNSIGNED).flatmap(lambda t: hnp.arrays(t, shapes)))
def test_tensorflows_message_brings_it_back_as_values_too(array: NDArray[Any]) -> None:
    proto = tfs_pb2.TensorProto()
    tensors.fill_tfs(proto, array, as_values=True)
    assert proto.tensor_content == b""
    same(tensors.decode_tfs(tfs_pb2.TensorProto.FromString(proto.SerializeToString())), array)
    same(tensors.decode_tfs(tensors.encode_tfs(array)), array)
    assert tensors.dtype_of(tensors.dtype_number(array.dtype)) == array.dtype


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_numbers_that_only_tensorflow_has_are_refused_by_our_api(dtype: str) -> None:
    with pytest.raises(
        InvalidArgument, match=f"x: has dtype {dtype}; send one of float32, .*, string"
    ):
        tensors.encode(np.zeros(1, dtype), "x")


def test_decoded_numbers_have_this_machines_byte_order() -> None:
    found = tensors.decode(tensors.encode(np.arange(3, dtype=np.int32)))
    assert found.dtype.isnative


def shaped(dtype: int, sizes: list[int], **fields: Any) -> tfs_pb2.TensorProto:
    dims = [tfs_pb2.TensorShapeProto.Dim(size=size) for size in sizes]
    shape = tfs_pb2.TensorShapeProto(dim=dims)
    return tfs_pb2.TensorProto(dtype=dtype, tensor_shape=shape, **fields)


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (shaped(tfs_pb2.DT_FLOAT, [3], float_val=[1.5, 2.5]), np.float32([1.5, 2.5, 2.5])),
        (shaped(tfs_pb2.DT_DOUBLE, [2], double_val=[1, 2]), np.float64([1, 2])),
        (shaped(tfs_pb2.DT_HALF, [3], half_val=[0x3C00, 0xC000]), np.float16([1, -2, -2])),
        (shaped(tfs_pb2.DT_INT8, [2, 2], int_val=[-7]), np.full((2, 2), -7, np.int8)),
        (shaped(tfs_pb2.DT_UINT8, [1], int_val=[255]), np.uint8([255])),
        (shaped(tfs_pb2.DT_INT64, [2], int64_val=[1 << 40]), np.int64([1 << 40] * 2)),
        (shaped(tfs_pb2.DT_BOOL, [2], bool_val=[True, False]), np.array([True, False])),
        (shaped(tfs_pb2.DT_STRING, [2], string_val=[b"a"]), objects([b"a", b"a"])),
        (shaped(tfs_pb2.DT_INT32, [2]), np.zeros(2, np.int32)),
        (shaped(tfs_pb2.DT_INT32, [0]), np.zeros(0, np.int32)),
    ],
)
def test_a_short_list_repeats_its_last_value(
    proto: tfs_pb2.TensorProto, expected: NDArray[Any]
) -> None:
    same(tensors.decode_tfs(proto), expected)


F32, I8 = tfs_pb2.DT_FLOAT, tfs_pb2.DT_INT8


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (shaped(0, [1]), "x.dtype: is 0; send one of float32"),
        (shaped(99, [1]), "x.dtype: is 99"),
        (shaped(F32, [1] * 17), "x.tensor_shape: has 17 dimensions, the limit is 16"),
        (shaped(F32, [-1]), r"x.tensor_shape: is \[-1\]; every size must be at least 0"),
        (shaped(F32, [1 << 40], float_val=[0]), "the limit is 16777216 elements"),
        (shaped(F32, [0, 1 << 62]), "the limit is 16777216 elements"),
        (shaped(F32, [1 << 32, 1 << 32]), "the limit is 16777216 elements"),
        (shaped(F32, [2], tensor_content=b"1234"), r"has 4 bytes; float32 \[2\] needs 8"),
        (shaped(F32, [1], float_val=[1, 2]), "x.float_val: has 2 values, its shape needs 1"),
        (shaped(I8, [1], int_val=[300]), "x.int_val: holds a value that is out of range for int8"),
        (shaped(tfs_pb2.DT_HALF, [1], half_val=[1 << 16]), "x.half_val: holds a value"),
        (shaped(tfs_pb2.DT_BOOL, [1], tensor_content=b"\2"), "is no bool; send 0 or 1"),
        (shaped(tfs_pb2.DT_STRING, [1], tensor_content=b"\1a"), "send string_val instead"),
        (
            tfs_pb2.TensorProto(dtype=F32, tensor_shape={"unknown_rank": True}),
            "x.tensor_shape: has no rank",
        ),
    ],
)
def test_a_wrong_tensorflow_message_is_refused_by_name(
    proto: tfs_pb2.TensorProto, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        tensors.decode_tfs(proto, "x")


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (inference_pb2.Tensor(shape=[1], data=b"1"), "x.dtype: is 0"),
        (inference_pb2.Tensor(dtype=7, shape=[2], data=b"1234"), "x.data: has 4 bytes"),
        (inference_pb2.Tensor(dtype=7, shape=[-2], data=b"1234"), "x.shape: is"),
        (inference_pb2.Tensor(dtype=7, shape=[], strings=[b"a"]), "x.strings: must be empty"),
        (inference_pb2.Tensor(dtype=10, shape=[2], strings=[b"a"]), "x.strings: has 1 values"),
        (inference_pb2.Tensor(dtype=10, shape=[], data=b"a"), "x.data: must be empty"),
    ],
)
def test_a_wrong_message_of_ours_is_refused_by_name(
    proto: inference_pb2.Tensor, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        tensors.decode(proto, "x")


@pytest.mark.parametrize("array", [np.zeros(1, complex), objects([3])])  # type: ignore[list-item]
def test_an_array_without_a_counterpart_is_refused(array: NDArray[Any]) -> None:
    for encode in (tensors.encode, tensors.encode_tfs):
        with pytest.raises(InvalidArgument, match="x: h"):
            encode(array, "x")


def test_text_arrays_travel_as_utf8() -> None:
    found = tensors.decode(tensors.encode(np.array(["é", "b"])))
    assert found.tolist() == ["é".encode(), b"b"]


sizes = st.lists(st.integers(-2, 5) | st.sampled_from([1 << 31, 1 << 62]), max_size=18)
tfs_messages = st.builds(
    lambda dtype, shape, content, floats, ints, text: shaped(
        dtype, shape, tensor_content=content, float_val=floats, int_val=ints, string_val=text
    ),
    st.integers(0, 25),
    sizes,
    st.binary(max_size=40),
    st.lists(st.floats(width=32), max_size=4),
    st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=4),
    st.lists(st.binary(max_size=3), max_size=4),
)
own_messages = st.builds(
    lambda dtype, shape, data, text: inference_pb2.Tensor(
        dtype=dtype, shape=shape, data=data, strings=text
    ),
    st.integers(0, 12),
    sizes,
    st.binary(max_size=40),
    st.lists(st.binary(max_size=3), max_size=4),
)


def outcome(decode: Callable[..., NDArray[Any]], proto: Any) -> list[int] | str:
    """The shape of the decoded array, or the field that was refused."""
    try:
        return list(decode(proto, "x").shape)
    except InvalidArgument as error:
        return error.field


@given(tfs_messages)
def test_any_tensorflow_message_gives_its_shape_or_a_named_error(
    proto: tfs_pb2.TensorProto,
) -> None:
    found = outcome(tensors.decode_tfs, proto)
    assert found == [dim.size for dim in proto.tensor_shape.dim] or str(found).startswith("x.")


@given(own_messages)
def test_any_message_of_ours_gives_its_shape_or_a_named_error(
    proto: inference_pb2.Tensor,
) -> None:
    found = outcome(tensors.decode, proto)
    assert found == list(proto.shape) or str(found).startswith("x.")
