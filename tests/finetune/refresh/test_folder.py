"""Laws of a model's refreshes on disk: what no later run needs goes, what one learns from stays."""

from __future__ import annotations

from pathlib import Path

from finetune.refresh.folder import RefreshFolder, Report, Run, Verdict


def ended(folder: RefreshFolder, name: str, verdict: Verdict, version: int | None = None) -> Run:
    """A run with everything that one may leave."""
    run = Run(folder.path / name)
    for path in (run.new, run.train, run.staged, run.training):
        path.mkdir(parents=True)
    report = Report(
        model="tiny",
        run=name,
        begun="2026-11-25T00:00:00Z",
        ended="2026-11-25T00:00:00Z",
        verdict=verdict,
        reasons=(),
        champion=1,
        version=version,
        files=(),
        findings=None,
    )
    run.finish(report, "a page")
    return run


def left(run: Run) -> set[str]:
    return {path.name for path in run.path.iterdir() if path.is_dir()}


def test_a_run_keeps_what_later_ones_learn_from_and_its_versions_training_split(
    tmp_path: Path,
) -> None:
    folder = RefreshFolder(tmp_path, "tiny")
    assert left(ended(folder, "a", "published", 2)) == {"new", "train"}
    assert left(ended(folder, "b", "kept")) == {"new"}
    assert left(ended(folder, "c", "refused")) == set()


def test_what_belongs_to_a_version_goes_with_it(tmp_path: Path) -> None:
    folder = RefreshFolder(tmp_path, "tiny")
    old, young = (ended(folder, str(number), "published", number) for number in (2, 3))
    (folder.path / ".writing-x").mkdir()
    folder.sweep([3, 4])
    assert left(old) == {"new"}
    assert left(young) == {"new", "train"}
    assert not (folder.path / ".writing-x").exists()


def test_without_any_run_there_is_nothing_to_sweep(tmp_path: Path) -> None:
    RefreshFolder(tmp_path, "tiny").sweep([])
    assert list(tmp_path.iterdir()) == []
