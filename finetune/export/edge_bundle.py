"""A published model → an edge bundle beside it, if the gate lets it pass."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from bundle import archive, golden, manifest, signing
from bundle.errors import BundleError
from bundle.integrity import verify_bytes
from bundle.manifest import EdgeModel, Manifest, Profile
from bundle.repository import ModelRepository, SavedBundle
from finetune.evaluate import Classified, Modelled
from finetune.export import (
    flatbuffer,
    gate,
    inference_graph,
    language_bundle,
    lengths,
    search,
    tflite,
)
from finetune.export.candidate import Candidate
from finetune.export.converted import Converted, tolerance
from finetune.progress import Progress
from finetune.recipe import Edge, Recipe


def publish(
    repository: ModelRepository,
    saved: SavedBundle,
    candidate: Candidate,
    profile: Profile,
    progress: Progress,
) -> Path:
    """Converts, judges and publishes one profile of a version.

    Raises:
        ExportError: there is no such profile of this kind of model.
        GateRefused: the converted model lost too much, or is not what its profile says.
    """
    title = f"{saved.manifest.name} {profile}"
    candidate = lengths.for_device(candidate)
    if isinstance(candidate.result, Modelled):
        made = language_bundle.make(candidate, profile, title, progress)
    else:
        made = _classifier(candidate, profile, title, progress)
    found = flatbuffer.inspect(made.model)
    edge = EdgeModel(
        profile=profile,
        min_runtime=found.min_runtime,
        ops=found.ops,
        weight_dtypes=found.weight_dtypes,
        float_ops=found.float_ops,
        evaluation=made.evaluation | {"size_bytes": float(len(made.model))},
        islands=made.islands,
        calibration=made.calibration,
        search=made.attempts,
    )
    files = {
        manifest.EDGE_MODEL_FILE: made.model,
        **candidate.task.assets,
        golden.FILE_NAME: golden.encode(made.golden),
    }
    return repository.publish_edge(_describe(saved.manifest, edge, candidate, made), files)


def _classifier(
    candidate: Candidate, profile: Profile, title: str, progress: Progress
) -> Converted:
    task, test, result = candidate.task, candidate.data.test, candidate.result
    if not isinstance(result, Classified):
        raise TypeError(f"no edge bundle of a model that gives {type(result).__name__}")
    made = _quantize(candidate, profile, progress)
    flatbuffer.check_profile(flatbuffer.inspect(made.model), profile)
    model = gate.Quantized(made.model, task.preprocessor.spec)
    quantized = gate.run(model, task, test, progress)
    verdict = gate.judge(result.logits, quantized, result.labels)
    gate.check(title, quantized, verdict, candidate.recipe.edge.limits(profile))
    return Converted(
        model=made.model,
        golden=_golden(candidate, model, verdict),
        evaluation=verdict.figures() | gate.latency(model, task, test),
        islands=made.islands,
        attempts=made.attempts,
        calibration=made.calibration,
    )


def _quantize(candidate: Candidate, profile: Profile, progress: Progress) -> search.Found:
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
    if found.generation is not None:
        return judged_by.language == recipe.edge.language
    return judged_by.limits(found.edge.profile) == recipe.edge.limits(found.edge.profile)


def _describe(saved: Manifest, edge: EdgeModel, candidate: Candidate, made: Converted) -> Manifest:
    recipe = candidate.recipe.model_dump(mode="json")
    return msgspec.structs.replace(
        saved,
        edge=edge,
        preprocess=candidate.task.preprocessor.spec,
        signatures=flatbuffer.signatures(made.model),
        provenance=msgspec.structs.replace(saved.provenance, recipe=recipe),
        generation=made.generation,
    )


def _golden(candidate: Candidate, model: gate.Quantized, verdict: gate.Verdict) -> golden.Golden:
    """The published answers; a runtime may differ by what quantization itself changes, no more."""
    inputs = candidate.golden_inputs()
    logits = np.stack([model(candidate.task.preprocessor([raw])) for raw in inputs])
    return golden.make(inputs, logits, tolerance(verdict.usual_difference))
