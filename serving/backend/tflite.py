"""One TFLite model in memory, ready to answer: `--prefer_tflite_model`.

model.tflite ──► signatures, or one of its inputs and outputs by their tensors' names ─► run
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.backend.config import BackendConfig
from serving.backend.servable import DEFAULT_SIGNATURE, Function, Servable
from serving.backend.signature import from_def
from serving.backend.source import TFLITE_MODEL
from serving.errors import InvalidArgument
from serving.tensors import Array, dtype_number

_METHOD = "tensorflow/serving/predict"

Details = Mapping[str, Mapping[str, Any]]  # LiteRT's, by the names that callers use


def load(path: Path, config: BackendConfig) -> Servable:
    """Loads the `model.tflite` of a version's folder.

    Raises:
        Exception: whatever LiteRT raises for a file that is damaged.
        InvalidArgument: a tensor has a dtype that can't be sent.
    """
    interpreter = Interpreter(
        str(path / TFLITE_MODEL), num_threads=config.loading.intra_op_threads or None
    )
    lock = threading.Lock()  # an interpreter computes one thing at a time
    signatures = get_model_metadata_pb2.SignatureDefMap().signature_def
    functions = {}
    for name, run in _runs(interpreter, lock).items():
        definition = signatures[name]
        definition.method_name = _METHOD
        _describe(definition.inputs, run.inputs)
        _describe(definition.outputs, run.outputs)
        signature = from_def(name, definition)
        if signature is not None:
            functions[name] = Function(signature, run, config.batching)
    return Servable(functions, dict(signatures), config.max_message_bytes)


class _Run:
    """A signature's computation, from NumPy to NumPy, both in the order of their names."""

    def __init__(
        self, compute: Any, lock: threading.Lock, inputs: Details, outputs: Details
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._compute = compute
        self._lock = lock

    def __call__(self, arrays: Sequence[Array]) -> Sequence[Array]:
        with self._lock:
            try:
                found = self._compute(**dict(zip(sorted(self.inputs), arrays, strict=True)))
            except (ValueError, RuntimeError) as error:
                reason = str(error).partition("\n")[0]
                raise InvalidArgument(
                    "inputs", f"the model can't compute with them: {reason}"
                ) from error
        return [found[name] for name in sorted(self.outputs)]


def _runs(interpreter: Any, lock: threading.Lock) -> dict[str, _Run]:
    runs = {}
    for name in interpreter.get_signature_list():
        runner = interpreter.get_signature_runner(name)
        runs[name] = _Run(runner, lock, runner.get_input_details(), runner.get_output_details())
    if not runs:  # a file from before signatures
        runner = _Unsigned(interpreter)
        runs[DEFAULT_SIGNATURE] = _Run(runner, lock, runner.inputs, runner.outputs)
    return runs


class _Unsigned:
    """Computes a model without signatures, by its tensors' names."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self.inputs = {each["name"]: each for each in interpreter.get_input_details()}
        self.outputs = {each["name"]: each for each in interpreter.get_output_details()}

    def __call__(self, **arrays: Array) -> dict[str, Array]:
        for name, array in arrays.items():
            self._interpreter.resize_tensor_input(self.inputs[name]["index"], array.shape)
        self._interpreter.allocate_tensors()
        for name, array in arrays.items():
            self._interpreter.set_tensor(self.inputs[name]["index"], array)
        self._interpreter.invoke()
        return {
            name: self._interpreter.get_tensor(each["index"]) for name, each in self.outputs.items()
        }


def _describe(infos: Any, details: Details) -> None:
    for name, detail in details.items():
        info = infos[name]
        info.name = detail["name"]
        info.dtype = int(dtype_number(np.dtype(detail["dtype"]), name))
        for size in detail["shape_signature"]:
            info.tensor_shape.dim.add(size=int(size))
