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
from finetune.export import flatbuffer, gate, tflite
from finetune.export.candidate import Candidate
from finetune.export.gate import Logits
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
    data, preprocessor = candidate.data, candidate.task.preprocessor
    with progress.timed(f"convert to {profile}", expected_s=30):
        content = tflite.convert(candidate.model, preprocessor.spec.buckets, profile)
    found = flatbuffer.inspect(content)
    flatbuffer.check_profile(found, profile)
    quantized = gate.run(content, data.test, preprocessor, progress)
    verdict = gate.judge(candidate.test_logits, quantized, data.test.labels)
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
        preprocessor.spec.tokenizer: candidate.task.tokenizer_json,
        golden.FILE_NAME: golden.encode(_golden(candidate, quantized, verdict.max_difference)),
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
    signatures = {
        tflite.signature_name(tokens): signature(len(saved.labels), 1, tokens)
        for tokens in saved.preprocess.buckets
    }
    return msgspec.structs.replace(saved, edge=edge, signatures=signatures, provenance=provenance)


def _golden(candidate: Candidate, quantized: Logits, max_difference: float) -> golden.Golden:
    """The published answers; a runtime may differ by what quantization itself changed, no more."""
    texts = candidate.golden_texts()
    rows = dict(zip(candidate.data.test_texts, quantized, strict=True))
    logits = np.stack([rows[text] for text in texts])
    return golden.make(texts, logits, max(max_difference, _FLOAT_TOLERANCE))
