"""LiteRT or tflite-runtime behind one adapter: LiteRT first, since it knows the newer ops."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import EdgeModel
from edge.errors import RuntimeMissing, RuntimeUnfit

# Module and distribution, in the order they are tried.
_KNOWN = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)

Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]
_DELEGATED = "DELEGATE"  # the op that stands for a part of the graph


@dataclass(frozen=True)
class Loaded:
    """A model in a runtime."""

    signature: Callable[[str], Run]  # by its name; what a run returns is the caller's own
    delegated_parts: int  # of the first signature's graph


@dataclass(frozen=True)
class Runtime:
    """An installed TFLite runtime."""

    name: str  # of the distribution
    version: str
    interpreter: Any  # the class

    def check(self, edge: EdgeModel) -> None:
        """Refuses a model that uses newer ops than the runtime has.

        tflite-runtime is numbered as TensorFlow, and so is `min_runtime`. LiteRT counts anew
        from 1.0, after TensorFlow 2.17; what it lacks shows when the model is loaded.

        Raises:
            RuntimeUnfit: names both versions and the runtime to use.
        """
        if self.name == "tflite-runtime" and _numbers(self.version) < _numbers(edge.min_runtime):
            raise RuntimeUnfit(
                f"{self.name} {self.version} is too old: this {edge.profile} model needs ops of "
                f"TFLite {edge.min_runtime}. Install ai-edge-litert, or use a float32 or "
                "full_int8 bundle."
            )

    def load(self, model: bytes | Path, threads: int) -> Loaded:
        """Loads a TFLite model.

        Args:
            model: the file's content; or its path, which takes less memory.
            threads: CPU threads of one call.

        Raises:
            RuntimeUnfit: the runtime refuses the model, has not the signature or can't run it.
        """
        try:
            source = (
                {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
            )
            interpreter = self.interpreter(**source, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise self._unfit("refuses the model", error) from error

        def signature(name: str) -> Run:
            try:
                runner = interpreter.get_signature_runner(name)
            except ValueError as error:
                raise self._unfit(f"finds no signature {name!r} in the model", error) from error

            def run(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
                try:
                    outputs = runner(**inputs)
                except (ValueError, RuntimeError) as error:
                    raise self._unfit(f"can't run signature {name!r}", error) from error
                return {key: np.array(value) for key, value in outputs.items()}

            return run

        ops = [each["op_name"] for each in interpreter._get_ops_details()]
        return Loaded(signature, ops.count(_DELEGATED))

    def _unfit(self, problem: str, error: Exception) -> RuntimeUnfit:
        reason = " ".join(str(error).split())[:200]
        return RuntimeUnfit(f"{self.name} {self.version} {problem}: {reason}")


def find() -> Runtime:
    """The first TFLite runtime that is installed.

    Raises:
        RuntimeMissing: there is none, or none that loads; names what to install.
    """
    broken = ""
    for module, distribution in _KNOWN:
        try:
            interpreter = importlib.import_module(module).Interpreter
        except ModuleNotFoundError:
            continue
        except ImportError as error:  # such as a C library that is too old for it
            broken += f"; {distribution} is, but does not load: {error}"
            continue
        return Runtime(distribution, importlib.metadata.version(distribution), interpreter)
    raise RuntimeMissing(f"no TFLite runtime is installed: pip install 'tensorseek[edge]'{broken}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
