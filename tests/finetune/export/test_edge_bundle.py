"""Laws of the edge bundle: judged before it is published, whole, and made again when outdated."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bundle import archive, golden, integrity, manifest
from bundle.manifest import Manifest
from bundle.repository import ModelRepository, SavedBundle
from edge.runner import EdgeRunner
from finetune.errors import GateRefused
from finetune.export import calibration, edge_bundle, flatbuffer
from finetune.export.candidate import Candidate
from finetune.progress import Silent
from finetune.recipe import Recipe


@pytest.fixture(scope="module")
def saved(published: Any) -> SavedBundle:
    return published.outcome.saved


@pytest.fixture
def path(published: Any, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copy(published.outcome.edge[0], tmp_path))


def content(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    files = archive.unpack(path)
    return manifest.decode(files.pop(manifest.FILE_NAME), str(path)), files


def test_it_holds_what_a_device_needs_and_nothing_else(path: Path) -> None:
    found, files = content(path)
    assert files.keys() == {"model.tflite", "tokenizer.json", "golden.json"}
    integrity.verify_bytes("it", files, found.files)


def test_its_manifest_is_the_versions_with_what_the_file_is(
    path: Path, saved: SavedBundle, candidate: Candidate
) -> None:
    found, files = content(path)
    edge = found.edge
    assert edge is not None
    inspected = flatbuffer.inspect(files["model.tflite"])
    assert (edge.profile, edge.ops, edge.float_ops) == (
        "dynamic_int8",
        inspected.ops,
        inspected.float_ops,
    )
    assert edge.weight_dtypes == inspected.weight_dtypes
    assert edge.min_runtime == inspected.min_runtime
    assert (found.name, found.version, found.labels) == ("tiny", 1, saved.manifest.labels)
    assert found.metrics == saved.manifest.metrics
    assert found.preprocess == saved.manifest.preprocess
    shapes = {
        name: [spec.shape for spec in one.inputs + one.outputs]
        for name, one in found.signatures.items()
    }
    assert shapes == {
        "tokens_8": [(1, 8), (1, 8), (1, 2)],
        "tokens_16": [(1, 16), (1, 16), (1, 2)],
    }


def test_its_evaluation_is_on_the_whole_test_split(path: Path, saved: SavedBundle) -> None:
    edge = content(path)[0].edge
    assert edge is not None
    figures = edge.evaluation
    assert figures["examples"] == 96
    assert figures["float_accuracy"] == saved.manifest.metrics["accuracy"].value
    assert figures["drop"] == figures["float_accuracy"] - figures["accuracy"] <= 0.005
    assert figures["agreement"] >= 0.98
    assert 0 < figures["max_difference"] < 1
    assert figures["drop_low"] <= figures["drop"] <= figures["drop_high"]


def test_it_tells_size_and_latency(path: Path) -> None:
    found, files = content(path)
    assert found.edge is not None
    figures = found.edge.evaluation
    assert figures["size_bytes"] == len(files["model.tflite"])
    assert {name for name in figures if name.startswith("p50_ms_")} == {
        "p50_ms_tokens_8",
        "p50_ms_tokens_16",
    }
    assert all(figures[name] > 0 for name in figures if name.startswith("p50_ms_"))


def test_a_static_bundle_tells_how_it_was_made(
    published: Any, candidate: Candidate, tmp_path: Path
) -> None:
    """Calibration, search, islands and scales; and the edge runner answers from integers."""
    models = tmp_path / "models"
    shutil.copytree(published.models, models, ignore=shutil.ignore_patterns("edge"))
    repository = ModelRepository(models)
    saved = repository.load("tiny")
    path = edge_bundle.publish(repository, saved, candidate, "full_int8", Silent())
    found, _ = content(path)
    assert found.edge is not None
    assert found.edge.calibration == calibration.choose(candidate.task, candidate.data).record
    assert [attempt.step for attempt in found.edge.search if attempt.passed]
    assert (found.edge.islands, found.edge.float_ops) == ((), {})
    (logits,) = found.signatures["tokens_8"].outputs
    assert logits.dtype == "int8"
    runner = EdgeRunner.open(path)
    answers = np.stack([runner.logits(text) for text in candidate.data.test.texts])
    assert answers.dtype == np.float32
    assert (answers.argmax(-1) == candidate.result.logits.argmax(-1)).mean() >= 0.9
    assert edge_bundle.is_current(path, saved, candidate.recipe)
    limits = candidate.recipe.edge.full_int8.model_copy(update={"max_drop": 0.5})
    edge = candidate.recipe.edge.model_copy(update={"full_int8": limits})
    other = candidate.recipe.model_copy(update={"edge": edge})
    assert not edge_bundle.is_current(path, saved, other)


def test_its_golden_answers_allow_no_more_than_quantization_changed(path: Path) -> None:
    found, files = content(path)
    assert found.edge is not None
    examples = golden.decode(files["golden.json"], "golden")
    assert examples.tolerance == max(5 * found.edge.evaluation["usual_difference"], 0.01)


def test_a_model_that_the_gate_refuses_is_not_published(
    published: Any, candidate: Candidate, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    shutil.copytree(published.models, models, ignore=shutil.ignore_patterns("edge"))
    repository = ModelRepository(models)
    opposite = dataclasses.replace(candidate.result, logits=-candidate.result.logits)
    other = dataclasses.replace(candidate, result=opposite)
    with pytest.raises(GateRefused, match=r"^tiny float32: refused: .*agreement 0\.0000 is under"):
        edge_bundle.publish(repository, repository.load("tiny"), other, "float32", Silent())
    assert repository.edge_bundles("tiny", 1) == []
    assert not (models / "tiny" / "edge").exists()


def test_a_whole_bundle_of_this_version_is_current(
    path: Path, saved: SavedBundle, recipe: Recipe
) -> None:
    assert edge_bundle.is_current(path, saved, recipe)


def test_a_missing_or_damaged_bundle_is_not(path: Path, saved: SavedBundle, recipe: Recipe) -> None:
    whole = path.read_bytes()
    assert b"TFL3" in whole
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole.replace(b"TFL3", b"TFL4")):
        path.write_bytes(damaged)
        assert not edge_bundle.is_current(path, saved, recipe)
    path.unlink()
    assert not edge_bundle.is_current(path, saved, recipe)


@pytest.mark.parametrize("gate", ["max_drop=0.004", "min_agreement=0.99"])
def test_a_bundle_judged_by_other_gates_is_not(
    path: Path, saved: SavedBundle, tiny_recipe: Any, gate: str
) -> None:
    assert not edge_bundle.is_current(path, saved, tiny_recipe(f"edge.gates.{gate}"))
    assert edge_bundle.is_current(path, saved, tiny_recipe("edge.profiles=[float16, dynamic_int8]"))


def test_a_bundle_of_another_training_is_not(
    path: Path, saved: SavedBundle, recipe: Recipe
) -> None:
    """Also of the same recipe and data, after a version was deleted and trained again."""
    provenance = saved.manifest.provenance
    for change in ({"recipe_sha256": "0" * 64}, {"created": "2020-01-01T00:00:00Z"}):
        other = msgspec.structs.replace(
            saved.manifest, provenance=msgspec.structs.replace(provenance, **change)
        )
        assert not edge_bundle.is_current(path, SavedBundle(saved.path, other), recipe)
