"""An ONNX file → a TensorRT engine, on the machine whose GPU will run it.

    models/<name>/onnx/<N>.onnx ──► parse ──► float16, the manifest's shapes ──► build
                                                                                  │
                                   models/<name>/tensorrt/<N>.engine ◄────────────┘

An engine holds for one GPU model and one TensorRT release: build it where it is to run.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle import atomic
from bundle.manifest import Preprocess
from bundle.repository import ModelRepository, SavedBundle
from finetune import gpu
from finetune.errors import ExportError
from finetune.progress import Progress

Shape = tuple[int, ...]

_MAJOR = 10  # from 11 on, a builder has no switch for float16
_USUAL_BATCH = 8
_LARGEST_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Span:
    """The shapes of an input that an engine takes, and the one it is tuned for."""

    smallest: Shape
    usual: Shape
    largest: Shape


def path_of(repository: ModelRepository, name: str, version: int) -> Path:
    """Where the engine of a version lies, or would lie."""
    return repository.root / name / "tensorrt" / f"{version}.engine"


def require() -> None:
    """Refuses a machine that can't build an engine.

    Raises:
        ExportError: names what is missing, and the fix.
    """
    missing = []
    if not gpu.find():
        missing.append("no NVIDIA GPU answers here: run it on a machine with one, and its driver")
    if importlib.util.find_spec("tensorrt") is None:
        missing.append(
            f"the package tensorrt is not installed: pip install 'tensorrt>={_MAJOR},<{_MAJOR + 1}'"
        )
    if missing:
        raise ExportError(f"TensorRT: {'; '.join(missing)}")


def spans(spec: Preprocess) -> dict[str, Span]:
    """For each input: from one example of the smallest shape to a batch of the largest."""
    shapes = sorted(spec.variants.values())
    span = Span(
        smallest=(1, *shapes[0]),
        usual=(_USUAL_BATCH, *shapes[len(shapes) // 2]),
        largest=(_LARGEST_BATCH, *shapes[-1]),
    )
    return dict.fromkeys(spec.inputs, span)


def publish(
    repository: ModelRepository, saved: SavedBundle, onnx_file: Path, progress: Progress
) -> Path:
    """Builds the engine of a version from its ONNX file, and writes it all at once.

    Raises:
        ExportError: this machine can't, or TensorRT does not take the model.
    """
    require()
    with progress.timed("build the TensorRT engine", expected_s=120):
        engine = build(onnx_file.read_bytes(), spans(saved.manifest.preprocess))
    path = path_of(repository, saved.manifest.name, saved.manifest.version)
    atomic.write_bytes(path, engine)
    return path


def build(content: bytes, inputs: Mapping[str, Span]) -> bytes:
    """An engine in float16 from an ONNX file, serialized.

    Raises:
        ExportError: TensorRT is of another release, or does not take the model.
    """
    trt: Any = importlib.import_module("tensorrt")
    if int(trt.__version__.split(".")[0]) != _MAJOR:
        raise ExportError(
            f"TensorRT: version {trt.__version__} is installed, {_MAJOR} is needed: "
            f"pip install 'tensorrt>={_MAJOR},<{_MAJOR + 1}'"
        )
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        raise ExportError(f"TensorRT: does not take the model: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    for name, span in inputs.items():
        profile.set_shape(name, span.smallest, span.usual, span.largest)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError("TensorRT: built no engine; its own messages above say why")
    return bytes(engine)
