"""Bytes → request messages, with an error that names the field.

protobuf refuses a whole message for one `string` that isn't UTF-8 and does not say which. So what
it refuses is read once more by a twin of the schema in which every `string` is `bytes`, and the
first value that isn't UTF-8 gets named.
"""

from __future__ import annotations

import functools
from typing import TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from protos import inference_pb2
from serving.errors import InvalidArgument

M = TypeVar("M", bound=Message)


def decode(kind: type[M], data: bytes) -> M:
    """Reads a request.

    Raises:
        InvalidArgument: it is no such message, or a text in it isn't UTF-8; names the field.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise _explain(kind, data, error) from error


def _explain(kind: type[Message], data: bytes, error: DecodeError) -> InvalidArgument:
    try:
        field = _bad_text(_twin(kind.DESCRIPTOR.full_name).FromString(data), "")
    except DecodeError:
        field = None
    if field is not None:
        return InvalidArgument(field, "is not valid UTF-8; encode text as UTF-8")
    name = kind.DESCRIPTOR.name
    return InvalidArgument("request", f"is not a valid {name}: {error}; see inference.proto")


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        _loosen(message)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _twin(full_name: str) -> type[Message]:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full_name))


def _loosen(message: descriptor_pb2.DescriptorProto) -> None:
    message.options.ClearField("map_entry")  # a map's key can't be bytes; a list of pairs can
    for field in message.field:
        if field.type == FieldDescriptor.TYPE_STRING:
            field.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
    for nested in message.nested_type:
        _loosen(nested)


def _bad_text(twin: Message, path: str) -> str | None:
    """The path of the first text in `twin` that isn't UTF-8."""
    strict = inference_pb2.DESCRIPTOR.pool.FindMessageTypeByName(twin.DESCRIPTOR.full_name)
    for field, content in twin.ListFields():
        text = strict.fields_by_name[field.name].type == FieldDescriptor.TYPE_STRING
        for place, value in enumerate(content if field.is_repeated else [content]):
            here = f"{path}{field.name}[{place}]" if field.is_repeated else path + field.name
            if text and not _is_utf8(value):
                return here
            found = _bad_text(value, f"{here}.") if isinstance(value, Message) else None
            if found is not None:
                return found
    return None


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
