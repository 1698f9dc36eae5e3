"""`tf.train.Example`, the content of a record, without TensorFlow.

    Example { features { feature { "text": bytes_list, "label": int64_list } } }

Wire-compatible: the messages are declared as TensorFlow declares them, in a pool of their own so
that both can live in one process.

Source: tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

Value = bytes | int
_Field = descriptor_pb2.FieldDescriptorProto


def encode(features: Mapping[str, Value]) -> bytes:
    """A serialized Example of single values; the same features make the same bytes."""
    example = _example_class()()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        else:
            feature.int64_list.value.append(value)
    return bytes(example.SerializeToString(deterministic=True))


def decode(payload: bytes, wanted: Mapping[str, type[bytes] | type[int]]) -> dict[str, Any]:
    """The single value of each wanted feature; others are ignored.

    Args:
        wanted: name → `bytes` or `int` (64 bits).

    Raises:
        ValueError: the payload is no Example, or a feature is missing or of another type.
    """
    example = _example_class()()
    try:
        example.ParseFromString(payload)
    except message.DecodeError as error:
        raise ValueError("the record is no tf.train.Example") from error
    features = dict(example.features.feature)
    values = {}
    for name, kind in wanted.items():
        listed: Any = _values(features[name], kind) if name in features else ()
        if len(listed) != 1:
            raise ValueError(
                f"`{name}` must be one {kind.__name__}, the record has {len(listed)}; "
                f"its features are {sorted(features)[:10]}"
            )
        values[name] = listed[0]
    return values


def _values(feature: Any, kind: type[bytes] | type[int]) -> Any:
    return feature.bytes_list.value if kind is bytes else feature.int64_list.value


@cache
def _example_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_declaration())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _declaration() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="tensorflow", syntax="proto3"
    )
    for name, kind in (
        ("BytesList", _Field.TYPE_BYTES),
        ("FloatList", _Field.TYPE_FLOAT),
        ("Int64List", _Field.TYPE_INT64),
    ):
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, label=_Field.LABEL_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, part in enumerate(("bytes", "float", "int64"), 1):
        field = feature.field.add(name=f"{part}_list", number=number, oneof_index=0)
        _of_message(field, f"{part.capitalize()}List")
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
    _of_message(entry.field.add(name="value", number=2), "Feature")
    by_name = features.field.add(name="feature", number=1)
    _of_message(by_name, "Features.FeatureEntry", _Field.LABEL_REPEATED)
    example = file.message_type.add(name="Example")
    _of_message(example.field.add(name="features", number=1), "Features")
    return file


def _of_message(field: Any, name: str, label: Any = _Field.LABEL_OPTIONAL) -> None:
    field.type, field.type_name, field.label = _Field.TYPE_MESSAGE, f".tensorflow.{name}", label
