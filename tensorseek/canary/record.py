"""How a trial stands, on disk beside the report of the refresh that published the version."""

from __future__ import annotations

from typing import Literal

import msgspec

from bundle import atomic
from finetune.refresh.folder import RefreshFolder, Report, Run
from tensorseek.canary.agreement import Agreement
from tensorseek.canary.counts import Counts
from tensorseek.errors import CanaryError

FILE = "trial.json"

Verdict = Literal["running", "promoted", "withdrawn"]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `trial.json`, beside the report of the refresh that published the version."""

    model: str
    version: int
    champion: int
    begun: str  # ISO 8601, UTC
    before: dict[int, Counts]  # what the gateways had counted by then
    verdict: Verdict = "running"
    ended: str | None = None
    reasons: tuple[str, ...] = ()
    calls: int = 0  # that the version has answered in its trial
    agreement: Agreement | None = None


def of(run: Run) -> Trial | None:
    """The trial of the version that a refresh published; None before it has begun.

    Raises:
        CanaryError: the file is damaged.
    """
    path = run.path / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trial)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise CanaryError(f"{path}: {error}. Remove it: the trial begins anew.") from error


def write(run: Run, trial: Trial) -> None:
    """Puts down how it stands."""
    content = msgspec.json.format(msgspec.json.encode(trial))
    atomic.write_bytes(run.path / FILE, content)


def pending(folder: RefreshFolder) -> tuple[Run, Report] | None:
    """The refresh whose version waits for its trial, or is on it."""
    for run, report in reversed(folder.reports()):
        if report.on_trial:
            trial = of(run)
            return (run, report) if trial is None or trial.verdict == "running" else None
    return None
