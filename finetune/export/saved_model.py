"""A trained model → a SavedModel bundle in the model repository."""

from __future__ import annotations

import importlib.metadata
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tensorflow as tf

from bundle import golden
from bundle.manifest import SCHEMA_VERSION, Manifest, Metric, Provenance
from bundle.repository import EXTRA, ModelRepository, SavedBundle
from finetune.export import card, generation, warmup
from finetune.export.candidate import Candidate
from finetune.export.serving_model import signature

# Kernels, and the order of their sums, differ between a batch and one input, and between machines.
_TOLERANCE = 1e-2
_PACKAGES = ("numpy", "tensorflow", "tf-keras", "tokenizers", "transformers")


def publish(repository: ModelRepository, candidate: Candidate, draft: Manifest) -> SavedBundle:
    """Writes the bundle that `draft` describes and makes it the model's next version, at once.

    Returns:
        The published version, with its real number, files and parent in the manifest.
    """
    task, model = candidate.task, candidate.model
    inputs = candidate.golden_inputs()
    with repository.staging() as staged:
        served = {"serving_default": model.forward} | generation.functions(candidate)
        tf.saved_model.save(model, str(staged), served)
        extra = staged / EXTRA
        extra.mkdir()
        for name, content in task.assets.items():
            (extra / name).write_bytes(content)
        logits = np.stack([model.answer(raw) for raw in inputs])
        examples = golden.make(inputs, logits, _TOLERANCE)
        (extra / golden.FILE_NAME).write_bytes(golden.encode(examples))
        small = generation.requests(candidate)
        warmup.write(extra / warmup.FILE_NAME, draft.name, task.preprocessor, inputs[-1], small)
        (extra / card.FILE_NAME).write_text(card.render(draft), encoding="utf-8")
        return repository.publish(staged, draft)


def describe(candidate: Candidate, job: str, metrics: dict[str, Metric]) -> Manifest:
    """The manifest of a trained model; the repository fills in version, files and parent.

    Args:
        job: `Recipe.identity`, by which a later run finds that the work is done.
    """
    recipe, task = candidate.recipe, candidate.task
    provenance = Provenance(
        recipe=recipe.model_dump(mode="json"),
        recipe_sha256=job,
        base_model=task.base_name,
        base_model_sha256=task.base_model_sha256,
        data_sha256=candidate.data.sha256,
        packages={name: importlib.metadata.version(name) for name in _PACKAGES},
        git_commit=_git_commit(),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=recipe.name,
        version=1,
        task=recipe.task,
        labels=recipe.data.labels,
        preprocess=task.preprocessor.spec,
        signatures={
            "serving_default": signature(task.preprocessor.spec, len(recipe.data.labels) or None),
            **generation.described(candidate),
        },
        generation=generation.record(candidate),
        metrics=metrics,
        provenance=provenance,
        files={},
    )


def _git_commit() -> str | None:
    """The commit of the program, None when it does not run from a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
