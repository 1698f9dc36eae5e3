"""A published model → an edge bundle beside it, if the gate lets it pass."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from bundle import archive, golden, manifest, signing
from bundle.errors import BundleError
from bundle.integrity import verify_bytes
from bundle.manifest import EdgeModel, Manifest, Profile, Signature
from bundle.repository import ModelRepository, SavedBundle
from finetune.evaluate import Classified
from finetune.export import flatbuffer, gate, inference_graph, search, tflite
from finetune.export.candidate import Candidate
from finetune.progress import Progress
from finetune.recipe import Edge, Recipe

# What equal float models may differ by between two machines' kernels.
_FLOAT_TOLERANCE = 1e-2
# Two runtimes round int8 differently, which changes as much as rounding did at all: of as many
# logits as golden examples have, the largest change is some four times the usual one.
_TIMES_USUAL = 5.0


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
    made = _make(candidate, profile, progress)
    found = flatbuffer.inspect(made.model)
    flatbuffer.check_profile(found, profile)
    model = gate.Quantized(made.model, task.preprocessor.spec)
    quantized = gate.run(model, task, test, progress)
    verdict = gate.judge(result.logits, quantized, result.labels)
    title = f"{saved.manifest.name} {profile}"
    gate.check(title, quantized, verdict, candidate.recipe.edge.limits(profile))
    measured = {"size_bytes": float(len(made.model))} | gate.latency(model, task, test)
    edge = EdgeModel(
        profile=profile,
        min_runtime=found.min_runtime,
        ops=found.ops,
        weight_dtypes=found.weight_dtypes,
        float_ops=found.float_ops,
        evaluation=verdict.figures() | measured,
        islands=made.islands,
        calibration=made.calibration,
        search=made.attempts,
    )
    files = {
        manifest.EDGE_MODEL_FILE: made.model,
        **task.assets,
        golden.FILE_NAME: golden.encode(_golden(candidate, model, verdict)),
    }
    described = _describe(saved.manifest, edge, candidate.recipe, flatbuffer.signatures(made.model))
    return repository.publish_edge(described, files)


def _make(candidate: Candidate, profile: Profile, progress: Progress) -> search.Found:
    if profile in ("full_int8", "mixed_int8"):
        return search.search(candidate, profile, progress)
    with progress.timed(f"convert to {profile}", expected_s=30):
        graph = inference_graph.of(candidate.model)
        content = tflite.convert(graph, candidate.task.preprocessor.spec.variants, profile)
    return search.Found(content)


def is_current(path: Path, saved: SavedBundle, recipe: Recipe) -> bool:
    """Whether a whole bundle of this version, judged by the recipe's present gates, is there."""
    try:
        files = archive.unpack(path)
        files.pop(signing.FILE_NAME, None)  # whose it is makes no difference here
        found = manifest.decode(files.pop(manifest.FILE_NAME, b""), str(path))
        verify_bytes(str(path), files, found.files)
    except BundleError:  # missing or damaged: it is made again
        return False
    source, made_from = (
        msgspec.structs.replace(record.provenance, recipe={}) for record in (saved.manifest, found)
    )
    if found.edge is None or source != made_from:
        return False
    judged_by = Edge.model_validate(found.provenance.recipe["edge"])
    return judged_by.limits(found.edge.profile) == recipe.edge.limits(found.edge.profile)


def _describe(
    saved: Manifest, edge: EdgeModel, recipe: Recipe, signatures: dict[str, Signature]
) -> Manifest:
    provenance = msgspec.structs.replace(saved.provenance, recipe=recipe.model_dump(mode="json"))
    # An edge bundle has none of the signatures that write texts.
    return msgspec.structs.replace(
        saved, edge=edge, signatures=signatures, provenance=provenance, generation=None
    )


def _golden(candidate: Candidate, model: gate.Quantized, verdict: gate.Verdict) -> golden.Golden:
    """The published answers; a runtime may differ by what quantization itself changes, no more."""
    inputs = candidate.golden_inputs()
    logits = np.stack([model(candidate.task.preprocessor([raw])) for raw in inputs])
    tolerance = max(_TIMES_USUAL * verdict.usual_difference, _FLOAT_TOLERANCE)
    return golden.make(inputs, logits, tolerance)
