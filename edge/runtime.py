"""LiteRT or tflite-runtime behind one adapter: LiteRT first, since it knows the newer ops."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
                f"TFLite {edge.min_runtime}. Install ai-edge-litert, or use a float32 bundle."
            )

    def load(self, model: bytes, threads: int) -> Callable[[str], Run]:
        """Loads a TFLite model.

        Args:
            threads: CPU threads of one call.

        Returns:
            Signature name → a function from named input arrays to named output arrays. What it
            returns is the caller's own.

        Raises:
            RuntimeUnfit: the runtime refuses the model, has not the signature or can't run it.
        """
        try:
            interpreter = self.interpreter(model_content=model, num_threads=threads)
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

        return signature

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
