"""Laws of evaluation: a model is worth the same wherever it runs, and only on the right data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bundle import archive, integrity, manifest
from bundle.errors import IntegrityError
from finetune.data import jsonl
from finetune.errors import DataError, EvaluationError
from finetune.metrics.language import LanguageResult
from finetune.progress import Silent
from finetune.report import page
from tensorseek import evaluation
from tensorseek.evaluation import Measured, Subject


@pytest.fixture(scope="module")
def targets(published: Any) -> dict[str, str]:
    """Kind → where the published model of that kind lies."""
    (run,) = (published.runs / "tiny").iterdir()
    (edge,) = published.outcome.edge
    return {"run": str(run), "savedmodel": str(published.outcome.saved.path), "edge": str(edge)}


@pytest.fixture(scope="module")
def subjects(targets: dict[str, str], published: Any) -> dict[str, Subject]:
    progress = Silent()
    return {
        kind: evaluation.find(target, published.models, progress)
        for kind, target in targets.items()
    }


@pytest.fixture(scope="module")
def measured(subjects: dict[str, Subject]) -> dict[str, Measured]:
    """Each on its own test split."""
    return {
        kind: evaluation.evaluate(subject, None, Silent()) for kind, subject in subjects.items()
    }


def test_run_and_bundle_are_worth_what_the_manifest_says(
    measured: dict[str, Measured], published: Any
) -> None:
    recorded = published.outcome.saved.manifest.metrics["accuracy"]
    for kind in ("run", "savedmodel"):
        found = measured[kind]
        assert found.result.accuracy.metric(found.data_sha256) == recorded


def test_the_edge_bundle_is_worth_what_its_gate_measured(
    measured: dict[str, Measured], published: Any
) -> None:
    (path,) = published.outcome.edge
    edge = manifest.decode(archive.unpack(path)[manifest.FILE_NAME], str(path)).edge
    assert edge is not None
    assert measured["edge"].result.accuracy.value == edge.evaluation["accuracy"]


def test_all_three_agree_on_calibration_and_confusion(measured: dict[str, Measured]) -> None:
    run, saved, edge = (measured[kind].result for kind in ("run", "savedmodel", "edge"))
    np.testing.assert_array_equal(run.confusion, saved.confusion)
    assert np.abs(edge.confusion - saved.confusion).sum() <= 4
    assert run.ece.value == pytest.approx(saved.ece.value, abs=1e-5)
    assert edge.ece.value == pytest.approx(saved.ece.value, abs=0.02)


def test_the_worst_examples_are_wrong_ones_of_the_test_split(
    measured: dict[str, Measured], published: Any
) -> None:
    data = published.recipe.data
    texts, labels = vars(jsonl.read(data.test, data.labels)).values()
    for found in measured.values():
        wrong = found.worst
        assert len(wrong) == found.result.confusion.sum() - np.trace(found.result.confusion)
        for one in wrong:
            assert one.shown.content == texts[one.index]
            assert one.label == data.labels[labels[one.index]] != one.answer
            assert one.label_probability < one.answer_probability


def test_a_name_is_the_version_that_is_served(published: Any) -> None:
    subject = evaluation.find("tiny", published.models, Silent())
    assert subject.title == "tiny version 1"
    assert subject.kind == "savedmodel"


def test_other_data_may_lack_a_label(subjects: dict[str, Subject], tmp_path: Path) -> None:
    path = tmp_path / "praise.csv"
    path.write_text("text,label\na very good film,positive\ngreat plot !,positive\n")
    for subject in subjects.values():
        found = evaluation.evaluate(subject, path, Silent())
        result = found.result
        assert (result.accuracy.value, result.accuracy.n) == (1, 2)
        assert result.absent == ("negative",)
        assert found.data_sha256 == integrity.sha256_file(path)


def test_other_data_must_be_whole(subjects: dict[str, Subject], tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"text": "a film", "label": "neutral"}\n')
    with pytest.raises(DataError, match=rf"^{path}, line 1: `label` is 'neutral'"):
        evaluation.evaluate(subjects["edge"], path, Silent())
    with pytest.raises(DataError, match=r"missing\.jsonl: No such file or directory"):
        evaluation.evaluate(subjects["edge"], tmp_path / "missing.jsonl", Silent())


def test_a_test_split_that_has_gone_or_changed_is_named(
    published: Any, targets: dict[str, str], tmp_path: Path
) -> None:
    """Of a run, and of what was made from it."""
    split = tmp_path / "test.jsonl"
    moved = published.recipe.data.model_copy(update={"test": split})
    recipe = published.recipe.model_copy(update={"data": moved})
    run = Path(shutil.copytree(targets["run"], tmp_path / Path(targets["run"]).name))
    (run / "recipe.yaml").write_text(recipe.to_yaml())
    edge = tmp_path / "1-dynamic_int8.zip"
    files = archive.unpack(Path(targets["edge"]))
    found = manifest.decode(files.pop(manifest.FILE_NAME), "edge")
    provenance = msgspec.structs.replace(found.provenance, recipe=recipe.model_dump(mode="json"))
    changed = manifest.encode(msgspec.structs.replace(found, provenance=provenance))
    edge.write_bytes(archive.pack({**files, manifest.FILE_NAME: changed}))
    for target in (run, edge):
        split.unlink(missing_ok=True)
        subject = evaluation.find(str(target), published.models, Silent())
        with pytest.raises(EvaluationError, match=rf"test split.*{split}: No such.*--data"):
            evaluation.evaluate(subject, None, Silent())
        content = published.recipe.data.test.read_text()
        split.write_text(content)
        accuracy = evaluation.evaluate(subject, None, Silent()).result.figures["accuracy"]
        assert accuracy.n == 96
        split.write_text(content.replace("film", "plot"))
        with pytest.raises(EvaluationError, match=rf"^{split}: is not what {subject.title} was"):
            evaluation.evaluate(subject, None, Silent())


def test_a_run_that_has_not_ended_is_named(published: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(published.recipe.to_yaml())
    with pytest.raises(EvaluationError, match=rf"^{folder}: its training has not ended"):
        evaluation.find(str(folder), published.models, Silent())


def test_a_target_that_is_nothing_is_named(published: Any, tmp_path: Path) -> None:
    expected = r"^nothing: is no run's folder.*no model 'nothing'; it has: tiny"
    with pytest.raises(EvaluationError, match=expected):
        evaluation.find("nothing", published.models, Silent())
    with pytest.raises(EvaluationError, match=r"^.*/models/tiny: is no run's folder"):
        evaluation.find(str(published.models / "tiny"), published.models, Silent())


def test_a_damaged_bundle_is_not_evaluated(published: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published.models, tmp_path / "models")) / "tiny" / "1"
    (folder / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(IntegrityError, match=r"saved_model\.pb: corrupted"):
        evaluation.find(str(folder), published.models, Silent())


def test_a_language_model_is_worth_the_same_trained_and_published(tmp_path: Path) -> None:
    from finetune import pipeline, recipe

    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.txt").write_text(
            "the film was very good , but the plot is dull .\n" * 9
        )
    content = {
        "name": "tiny-language",
        "task": "text-generation",
        "scratch": {"layers": 1, "hidden": 8, "heads": 1, "vocabulary": 300},
        "data": {name: str(tmp_path / f"{name}.txt") for name in ("train", "dev", "test")}
        | {"buckets": [16], "batch_size": 8},
        "edge": {"profiles": []},
        "precision": "float32",
    }
    models, runs = tmp_path / "models", tmp_path / "runs"
    parsed = recipe.parse(content, "test")
    outcome = pipeline.run(parsed, models=models, runs=runs, progress=Silent())
    (run,) = (runs / "tiny-language").iterdir()
    recorded = outcome.saved.manifest.metrics["perplexity"]
    for target in ("tiny-language", str(run)):
        subject = evaluation.find(target, models, Silent())
        found = evaluation.evaluate(subject, None, Silent())
        assert isinstance(found.result, LanguageResult)
        assert found.result.perplexity.metric(found.data_sha256) == recorded
        assert "perplexity" in page.render(subject.report(found, parsed.to_yaml()))
    (tmp_path / "test.txt").write_text("changed, but long enough")
    with pytest.raises(EvaluationError, match="is not what tiny-language version 1 was made with"):
        evaluation.evaluate(evaluation.find("tiny-language", models, Silent()), None, Silent())


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "tensorseek.cli", "evaluate", *arguments]
    whole += ["--runs", str(folder / "runs")]
    wide = os.environ | {"COLUMNS": "400"}  # no path is broken into lines
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=120, env=wide)


def test_the_command_shows_figures_with_intervals(
    targets: dict[str, str], measured: dict[str, Measured], tmp_path: Path
) -> None:
    done = command(targets["edge"], "--report", str(tmp_path / "report.html"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = measured["edge"].result.accuracy
    shown = [line.split() for line in done.stdout.splitlines()]
    interval = [f"{accuracy.low:.4f}", "to", f"{accuracy.high:.4f}"]
    assert ["accuracy", f"{accuracy.value:.4f}", *interval, "96"] in shown
    assert [line[0] for line in shown if line][1:] == [
        *("metric", "accuracy", "macro_f1", "ece"),
        *("label", "negative", "positive"),
    ]
    report = (tmp_path / "report.html").read_text()
    assert "tiny version 1, dynamic_int8" in report
    assert "base_model: " in report


def test_the_command_answers_a_script(
    targets: dict[str, str], measured: dict[str, Measured], tmp_path: Path
) -> None:
    done = command(targets["savedmodel"], "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    result = measured["savedmodel"].result
    assert answer["metrics"]["accuracy"]["value"] == result.accuracy.value
    assert answer["metrics"]["ece"] == pytest.approx(vars(result.ece))
    assert answer["confusion"] == result.confusion.tolist()
    assert [score["label"] for score in answer["classes"]] == ["negative", "positive"]
    assert (answer["kind"], answer["task"]) == ("savedmodel", "text-classification")
    assert len(answer["calibration"]) == 15


def test_the_command_fails_in_one_line(tmp_path: Path) -> None:
    done = command("nothing", "--models", str(tmp_path), folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("tensorseek: nothing: is no run's folder")
