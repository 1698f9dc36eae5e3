"""Where the refreshes of a model are kept, beside its versions.

models/movie-sentiment/refresh/
  lease.json
  20261125T063012-1f3a9c20/        a run; the newest without report.json is unfinished
    plan.json                      what it works on: written last, with new.* complete
    new/                           the new examples: learn.jsonl and test.jsonl, or folders
    train/                         the whole training split, as long as its version is there
    staged/  training/             while it works: the challenger, and its training
    report.json  report.html       what came of it: written last

All that a run needs to know of earlier ones is in their reports: there is no other state.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from bundle import atomic
from finetune.errors import RefreshError
from finetune.refresh.checks import Findings
from finetune.refresh.comparison import Comparison
from finetune.refresh.likelihood import Likelihood

PLAN, REPORT, PAGE = "plan.json", "report.json", "report.html"

T = TypeVar("T")

Verdict = Literal["published", "kept", "refused", "nothing new"]


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of new data."""

    path: str
    sha256: str
    kind: Literal["data", "log"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `plan.json`."""

    run: str
    begun: str  # ISO 8601, UTC
    recipe_sha256: str  # of the effective recipe
    champion: int | None  # version; None before the first
    files: tuple[NewFile, ...]
    findings: Findings


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `report.json`: a run that has ended."""

    model: str
    run: str
    begun: str  # ISO 8601, UTC
    ended: str
    verdict: Verdict
    reasons: tuple[str, ...]  # why the champion stays; empty when a version was published
    champion: int | None
    version: int | None  # the published one
    on_trial: bool = False  # it is not served yet: the gateway's calls are to judge it
    files: tuple[NewFile, ...]
    findings: Findings | None
    holdout: Comparison | None = None
    new: Comparison | None = None  # on the new examples that were kept for it
    likelihood: Likelihood | None = None  # of language models, on the test split
    new_likelihood: Likelihood | None = None
    edge: tuple[str, ...] = ()  # profiles of the version's bundles

    @property
    def learns(self) -> bool:
        """Whether later runs learn from its data too: not when they were refused."""
        return self.verdict in ("published", "kept")


class Run:
    """One run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.new, self.train = path / "new", path / "train"
        self.staged, self.training = path / "staged", path / "training"

    def plan(self) -> Plan | None:
        """What it works on; None when it was killed before that was settled.

        Raises:
            RefreshError: the file is damaged.
        """
        return _read(self.path / PLAN, Plan)

    def report(self) -> Report | None:
        """What came of it; None while it is unfinished.

        Raises:
            RefreshError: the file is damaged.
        """
        return _read(self.path / REPORT, Report)

    def finish(self, report: Report, page: str) -> None:
        """Writes the report, which ends the run, and removes what only the work needed."""
        atomic.write_bytes(self.path / PAGE, page.encode())
        atomic.write_bytes(self.path / REPORT, msgspec.json.format(msgspec.json.encode(report)))
        self.tidy(report)

    def tidy(self, report: Report) -> None:
        """Removes what a finished run no longer needs; a killed one may have left it."""
        unneeded = [self.staged, self.training]
        if report.verdict != "published":
            unneeded.append(self.train)
        if not report.learns:
            unneeded.append(self.new)
        for path in unneeded:
            shutil.rmtree(path, ignore_errors=True)


class RefreshFolder:
    """All runs of a model."""

    def __init__(self, models: Path, name: str) -> None:
        self.path = models / name / "refresh"

    def runs(self) -> Iterator[Run]:
        """The runs, oldest first."""
        if not self.path.is_dir():
            return
        for path in sorted(self.path.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                yield Run(path)

    def reports(self) -> list[tuple[Run, Report]]:
        """The runs that have ended, oldest first."""
        found = ((run, run.report()) for run in self.runs())
        return [(run, report) for run, report in found if report is not None]

    def unfinished(self) -> tuple[Run, Plan] | None:
        """The run that was killed after its plan was settled, if any."""
        for run in self.runs():
            plan = run.plan()
            if plan is not None and run.report() is None:
                return run, plan
        return None

    def known(self) -> set[str]:
        """The SHA-256 of every file that an earlier run has dealt with."""
        return {file.sha256 for _, report in self.reports() for file in report.files}

    def discard(self, run: Run) -> None:
        """Removes an unfinished run whose circumstances have changed."""
        shutil.rmtree(run.path)

    def sweep(self, versions: Collection[int]) -> None:
        """Removes what killed runs left half-written, and the training splits of versions gone.

        Args:
            versions: those that there are.
        """
        if not self.path.is_dir():
            return
        for path in self.path.iterdir():
            if path.is_dir() and path.name.startswith(".writing-"):
                shutil.rmtree(path)
        for run, report in self.reports():
            run.tidy(report)
            if report.version not in versions:
                shutil.rmtree(run.train, ignore_errors=True)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise RefreshError(f"{path}: {error}. Restore it, or remove {path.parent}.") from error
