"""A published model → an edge bundle beside it, if the gate lets it pass."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from bundle import archive, golden, manifest
from bundle.errors import BundleError
from bundle.integrity import verify_bytes
from bundle.manifest import EdgeModel, Manifest, Profile
from bundle.repository import ModelRepository, SavedBundle
from finetune.evaluate import Classified
from finetune.export import flatbuffer, gate, tflite
from finetune.export.candidate import Candidate
from finetune.export.serving_model import signature
from finetune.progress import Progress
from finetune.recipe import Recipe

# What equal float models may differ by between two machines' kernels.
_FLOAT_TOLERANCE = 1e-2


def publish(
    repository: ModelRepository,
    saved: SavedBundle,
    candidate: Candidate,
    profile: Profile,
    progress: Progress,
) -> Path:
    """Converts, judges and publishes one profile of a version.

    Raises:
        GateRefused: the converted model lost too much, or is not what its profile says.
    """
    task, test, result = candidate.task, candidate.data.test, candidate.result
    if not isinstance(result, Classified):
        raise TypeError(f"no edge bundle of a model that gives {type(result).__name__}")
    spec = task.preprocessor.spec
    with progress.timed(f"convert to {profile}", expected_s=30):
        content = tflite.convert(candidate.model, spec.variants, profile)
    found = flatbuffer.inspect(content)
    flatbuffer.check_profile(found, profile)
    model = gate.Quantized(content, spec)
    quantized = gate.run(model, task, test, progress)
    verdict = gate.judge(result.logits, quantized, result.labels)
    title = f"{saved.manifest.name} {profile}"
    gate.check(title, quantized, verdict, candidate.recipe.edge.gates)
    edge = EdgeModel(
        profile=profile,
        min_runtime=found.min_runtime,
        ops=found.ops,
        weight_dtypes=found.weight_dtypes,
        float_ops=found.float_ops,
        evaluation=verdict.figures(),
    )
    files = {
        manifest.EDGE_MODEL_FILE: content,
        **task.assets,
        golden.FILE_NAME: golden.encode(_golden(candidate, model, verdict.max_difference)),
    }
    return repository.publish_edge(_describe(saved.manifest, edge, candidate.recipe), files)


def is_current(path: Path, saved: SavedBundle, recipe: Recipe) -> bool:
    """Whether a whole bundle of this version, judged by the recipe's present gates, is there."""
    try:
        files = archive.unpack(path)
        found = manifest.decode(files.pop(manifest.FILE_NAME, b""), str(path))
        verify_bytes(str(path), files, found.files)
    except BundleError:  # missing or damaged: it is made again
        return False
    source, made_from = (
        msgspec.structs.replace(record.provenance, recipe={}) for record in (saved.manifest, found)
    )
    gates = recipe.model_dump(mode="json")["edge"]["gates"]
    return source == made_from and found.provenance.recipe["edge"]["gates"] == gates


def _describe(saved: Manifest, edge: EdgeModel, recipe: Recipe) -> Manifest:
    provenance = msgspec.structs.replace(saved.provenance, recipe=recipe.model_dump(mode="json"))
    spec = saved.preprocess
    signatures = {
        name: signature(spec, len(saved.labels), 1, shape) for name, shape in spec.variants.items()
    }
    return msgspec.structs.replace(saved, edge=edge, signatures=signatures, provenance=provenance)


def _golden(candidate: Candidate, model: gate.Quantized, max_difference: float) -> golden.Golden:
    """The published answers; a runtime may differ by what quantization itself changed, no more."""
    inputs = candidate.golden_inputs()
    logits = np.stack([model(candidate.task.preprocessor([raw])) for raw in inputs])
    return golden.make(inputs, logits, max(max_difference, _FLOAT_TOLERANCE))
