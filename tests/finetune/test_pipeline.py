"""Laws of the job: bad data stops it before training, a gate before publishing, and it never
does again what is done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bundle import archive, integrity, manifest
from bundle.errors import IntegrityError
from bundle.manifest import Manifest
from bundle.repository import ModelRepository
from finetune import pipeline, recipe
from finetune.errors import DataError, FinetuneError, GateRefused
from finetune.pipeline import Outcome
from finetune.progress import Silent
from finetune.recipe import Recipe


@pytest.fixture
def models(published: Any, tmp_path: Path) -> Path:
    """A copy of the model repository that a test may change."""
    return Path(shutil.copytree(published.models, tmp_path / "models"))


def run(recipe: Recipe, models: Path, runs: Path) -> Outcome:
    return pipeline.run(recipe, models=models, runs=runs, progress=Silent())


def test_a_job_publishes_a_version_and_its_edge_bundle(published: Any) -> None:
    outcome = published.outcome
    repository = ModelRepository(published.models)
    assert outcome.trained
    assert outcome.saved == repository.load("tiny", 1)
    assert outcome.edge == [repository.edge_path("tiny", 1, "dynamic_int8")]
    assert list((published.models / ".staging").iterdir()) == []


def test_the_effective_recipe_lies_beside_the_weights(published: Any) -> None:
    (folder,) = (published.runs / "tiny").iterdir()
    job = published.outcome.saved.manifest.provenance.recipe_sha256
    assert folder.name == job[:16]
    assert recipe.load(folder / "recipe.yaml") == published.recipe
    names = {path.name for path in folder.iterdir()}
    assert names == {"recipe.yaml", "trained", "logs", "report.html"}
    assert "tiny" in (folder / "report.html").read_text()


def test_a_second_run_does_nothing(published: Any, models: Path, tmp_path: Path) -> None:
    before = integrity.digest_folder(models)
    outcome = run(published.recipe, models, tmp_path / "runs")
    assert not outcome.trained
    assert outcome.saved.manifest == published.outcome.saved.manifest
    assert [path.name for path in outcome.edge] == ["1-dynamic_int8.zip"]
    assert integrity.digest_folder(models) == before
    assert not (tmp_path / "runs").exists()


def test_a_lost_edge_bundle_is_made_again_without_training(
    published: Any, models: Path, tmp_path: Path
) -> None:
    """From the published weights alone."""
    (path,) = ModelRepository(models).edge_bundles("tiny", 1)
    path.unlink()
    outcome = run(published.recipe, models, tmp_path / "runs")
    assert not outcome.trained
    assert outcome.edge == [path]
    again, original = (content(one) for one in (path, published.outcome.edge[0]))
    assert again.edge is not None
    assert original.edge is not None
    assert again.edge.ops == original.edge.ops
    assert msgspec.structs.replace(again, edge=None, files={}) == msgspec.structs.replace(
        original, edge=None, files={}
    )
    assert not (tmp_path / "runs").exists()


def content(path: Path) -> Manifest:
    files = archive.unpack(path)
    found = manifest.decode(files.pop(manifest.FILE_NAME), str(path))
    integrity.verify_bytes(str(path), files, found.files)
    return found


def test_a_corrupted_published_file_is_named_with_both_hashes(
    published: Any, models: Path, tmp_path: Path
) -> None:
    path = models / "tiny/1/variables/variables.index"
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    expected, found = integrity.sha256_bytes(whole), integrity.sha256_file(path)
    with pytest.raises(IntegrityError, match=f"{path}: corrupted.*{expected}, found: {found}"):
        run(published.recipe, models, tmp_path / "runs")
    path.unlink()
    with pytest.raises(IntegrityError, match=f"{path}: missing.*{expected}, found: no file"):
        run(published.recipe, models, tmp_path / "runs")


def test_a_model_under_the_accuracy_gate_is_not_published(
    published: Any, tiny_recipe: Any, tmp_path: Path
) -> None:
    """Its weights are kept: a lower gate would not train again."""
    runs = shutil.copytree(published.runs, tmp_path / "runs")
    strict = tiny_recipe("evaluation.min_accuracy=1.0", "edge.profiles=[]")
    accuracy = published.outcome.saved.manifest.metrics["accuracy"].value
    refusal = rf"^tiny: refused: test accuracy {accuracy:.4f} is under .*1\.0 \(96 test examples\)"
    with pytest.raises(GateRefused, match=refusal):
        run(strict, tmp_path / "models", runs)
    assert not (tmp_path / "models").exists()
    with pytest.raises(GateRefused, match=refusal):  # also of what is published already
        run(strict, published.models, runs)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_model_that_answers_with_no_number_is_not_published(
    tiny_recipe: Any, tiny_data: Path, tmp_path: Path
) -> None:
    """Its last step broke it, and no loss came after to show it."""
    lines = (tiny_data / "train.jsonl").read_text().splitlines(keepends=True)
    train = tmp_path / "train.jsonl"
    train.write_text("".join(sorted(lines, key=len)[:8]))
    broken = tiny_recipe(f"data.train={train}", "schedule.epochs=1", "optimizer.learning_rate=1e39")
    with pytest.raises(GateRefused, match=r"^tiny: refused: it answers test examples with what is"):
        run(broken, tmp_path / "models", tmp_path / "runs")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("split", ["train", "dev", "test"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not JSON"),
        (b'{"text": "a film"}', "`label` is missing"),
        (b'{"text": "a film", "label": "neutral"}', "`label` is 'neutral', the recipe's labels"),
        (b'{"text": "\xff", "label": "positive"}', "not UTF-8 at byte 10"),
        (b'{"text": "", "label": "positive"}', "`text` must be a non-empty string"),
        (b'{"text": "' + b"x" * 1001 + b'", "label": "positive"}', "text: has 1001 characters"),
    ],
)
def test_a_wrong_line_is_named_before_any_training(
    tiny_recipe: Any, tiny_data: Path, tmp_path: Path, split: str, line: bytes, reason: str
) -> None:
    path = tmp_path / f"{split}.jsonl"
    path.write_bytes((tiny_data / path.name).read_bytes() + line)
    number = path.read_bytes().count(b"\n") + 1
    expect_nothing_done(
        tiny_recipe(f"data.{split}={path}"), tmp_path, rf"{path}, line {number}: {reason}"
    )


def test_an_empty_or_missing_file_is_named_before_any_training(
    tiny_recipe: Any, tmp_path: Path
) -> None:
    path = tmp_path / "test.jsonl"
    wrong = tiny_recipe(f"data.test={path}")
    expect_nothing_done(wrong, tmp_path, f"{path}: No such file or directory")
    path.touch()
    expect_nothing_done(wrong, tmp_path, f"{path}: is empty")


def expect_nothing_done(wrong: Recipe, tmp_path: Path, expected: str) -> None:
    def step(*_: object) -> Any:
        pytest.fail("a step was shown")

    progress = Silent()
    progress.counted = progress.timed = step  # type: ignore[method-assign]
    with pytest.raises(DataError, match=expected) as caught:
        pipeline.run(wrong, models=tmp_path / "models", runs=tmp_path / "runs", progress=progress)
    assert isinstance(caught.value, FinetuneError)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "runs").exists()
