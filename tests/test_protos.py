"""Law: the generated code is what `make protos` makes of the .proto files beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc_tools")

ROOT = Path(__file__).parents[1]


def test_generated_code_is_current(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(
        r"^\t\$\(BIN\)/python (-m grpc_tools\.protoc .*)$", makefile, re.MULTILINE
    )
    assert len(commands) == 2
    for command in commands:
        arguments = command.replace("_out=.", f"_out={tmp_path}").split()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)
    made = sorted(path.name for path in (tmp_path / "protos").iterdir())
    kept = sorted(path.name for path in (ROOT / "protos").iterdir() if "_pb2" in path.name)
    assert made == kept
    for name in made:
        assert (tmp_path / "protos" / name).read_text() == (ROOT / "protos" / name).read_text()


def test_tfs_messages_are_wire_compatible_with_tensorflow_serving() -> None:
    """The same field numbers and types as the published API, message by message."""
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
    from tensorflow_serving.apis import get_model_status_pb2, model_pb2, predict_pb2

    from protos import tfs_pb2

    pairs = [
        (tfs_pb2.TensorProto, tensor_pb2.TensorProto),
        (tfs_pb2.TensorShapeProto, tensor_shape_pb2.TensorShapeProto),
        (tfs_pb2.TensorShapeProto.Dim, tensor_shape_pb2.TensorShapeProto.Dim),
        (tfs_pb2.ModelSpec, model_pb2.ModelSpec),
        (tfs_pb2.PredictRequest, predict_pb2.PredictRequest),
        (tfs_pb2.PredictResponse, predict_pb2.PredictResponse),
        (tfs_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
        (tfs_pb2.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
        (tfs_pb2.ModelVersionStatus, get_model_status_pb2.ModelVersionStatus),
    ]
    for ours, theirs in pairs:
        published = theirs.DESCRIPTOR.fields_by_number
        for number, field in ours.DESCRIPTOR.fields_by_number.items():
            assert number in published, f"{ours.DESCRIPTOR.name}.{field.name}"
            other = published[number]
            assert (field.name, field.type, field.is_repeated) == (
                other.name,
                other.type,
                other.is_repeated,
            )
    for name, number in tfs_pb2.DataType.items():
        assert types_pb2.DataType.Value(name) == number
    for name, number in tfs_pb2.ModelVersionStatus.State.items():
        assert get_model_status_pb2.ModelVersionStatus.State.Value(name) == number
