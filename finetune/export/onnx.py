"""A published SavedModel → an ONNX file beside it, if the gate lets it pass.

    models/<name>/<N>/ ──tf2onnx──► ONNX ──`onnx_gate`──► models/<name>/onnx/<N>.onnx

Inputs, outputs and their dtypes are those of the manifest; sizes that it leaves open stay open.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx.convert

from bundle import atomic
from bundle.manifest import Manifest
from bundle.repository import ModelRepository, SavedBundle
from finetune.errors import ExportError
from finetune.export import onnx_gate
from finetune.export.onnx_gate import SIGNATURE, Verdict
from finetune.progress import Progress

_OPSET = 18  # the newest that tf2onnx 1.17 writes; onnxruntime reads it since 1.14
_MAX_BYTES = 2**31 - 1  # of a protobuf message


def path_of(repository: ModelRepository, name: str, version: int) -> Path:
    """Where the ONNX file of a version lies, or would lie."""
    return repository.root / name / "onnx" / f"{version}.onnx"


def publish(repository: ModelRepository, saved: SavedBundle, progress: Progress) -> Verdict:
    """Converts a version, judges the result, and writes it to `path_of`, all at once.

    Raises:
        ExportError: the model can't be an ONNX file.
        GateRefused: the file does not answer as the SavedModel does; nothing was written.
    """
    with progress.timed("convert to ONNX", expected_s=30):
        content = convert(saved)
    with progress.timed("compare with TensorFlow", expected_s=5):
        verdict = onnx_gate.judge(content, saved)
    atomic.write_bytes(path_of(repository, saved.manifest.name, saved.manifest.version), content)
    return verdict


def convert(saved: SavedBundle) -> bytes:
    """A version as an ONNX file that nothing has judged yet.

    Raises:
        ExportError: it is too large, or has an operation that ONNX lacks.
    """
    manifest = saved.manifest
    title = f"{manifest.name} version {manifest.version}"
    size_bytes = sum(path.stat().st_size for path in (saved.path / "variables").iterdir())
    if size_bytes > _MAX_BYTES:
        raise ExportError(
            f"{title}: its weights are {size_bytes:,} bytes, an ONNX file holds {_MAX_BYTES:,}; "
            "export a smaller model"
        )
    inputs = manifest.signatures[SIGNATURE].inputs
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in inputs]
    loaded = tf.saved_model.load(str(saved.path))
    serve = loaded.signatures[SIGNATURE]

    def by_place(*tensors: Any) -> Any:
        return serve(**{spec.name: each for spec, each in zip(inputs, tensors, strict=True)})

    handlers: dict[str, tuple[Any, list[Any]]] = {"Erfc": (_erfc, [])}
    with _quiet():
        try:
            model, _ = tf2onnx.convert.from_function(
                tf.function(by_place), specs, opset=_OPSET, custom_op_handlers=handlers
            )
        except Exception as error:  # whatever its hundreds of handlers may raise
            reason = " ".join(str(error).split())[:300]
            raise ExportError(f"{title}: tf2onnx does not take it: {reason}") from error
    lacking = sorted({node.op_type for node in model.graph.node if not _is_known(node)})
    if lacking:
        raise ExportError(f"{title}: tf2onnx can't convert {lacking}; serve its SavedModel instead")
    _describe(model, manifest)
    return bytes(model.SerializeToString())


def _describe(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Writes into the file what it is, and names its open sizes."""
    for value in model.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if not size.dim_value:
                size.dim_param = ("batch", "tokens")[axis]
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(
        model,
        {
            "name": manifest.name,
            "version": str(manifest.version),
            "labels": json.dumps(manifest.labels),
            "recipe_sha256": manifest.provenance.recipe_sha256,
        },
    )


def _is_known(node: onnx.NodeProto) -> bool:
    return bool(node.domain) or onnx.defs.has(node.op_type)


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """1 - erf(x): TensorFlow's exact GELU has it, tf2onnx does not.

    Where erfc is near 0, the difference is off by 6e-8: less than what float32 sums differ by.
    """
    (output,) = node.output
    known = {"dtypes": [graph.get_dtype(output)], "shapes": [graph.get_shape(output)]}
    erf = graph.make_node("Erf", node.input, **known)
    one = graph.make_const(f"{name}/one", np.ones((), np.float32))
    graph.remove_node(name)
    inputs = [one.output[0], erf.output[0]]
    graph.make_node("Sub", inputs, name=name, outputs=[output], **known)


@contextmanager
def _quiet() -> Iterator[None]:
    """tf2onnx tells of deprecations, and of each operation it lacks: that is told in one line."""
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
