"""One trial: begun after a refresh has published on trial, ended when it is judged.

trial.json  running ──► repository: promoted │ withdrawn ──► gateway.yaml: no split ──► ended

In this order: killed in between, the next run sees in the repository how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bundle.repository import ModelRepository
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.refresh import plan
from finetune.refresh.folder import RefreshFolder, Report, Run
from finetune.refresh.lease import Lease
from finetune.refresh.settings import Canary
from serving.errors import ServingError
from tensorseek.canary import agreement, judgement, record
from tensorseek.canary.counts import Counts
from tensorseek.canary.gateway import Gateway
from tensorseek.canary.record import Trial, Verdict
from tensorseek.errors import CanaryError

_LOOK_S = 1.0
_FEW = 20  # calls that its share should have brought

Stop = Callable[[], bool]


def go_on(
    recipe: Recipe, *, models: Path, progress: Progress, stop: Stop, look_s: float = _LOOK_S
) -> Trial | None:
    """Begins the trial of a version that waits for one, or goes on with it.

    Args:
        stop: asked at each look; when it says so, the trial stays as it is.
        look_s: between two looks at the gateway's counts.

    Returns:
        How it stands: still running when it has had too few calls. None without such a version.

    Raises:
        LeaseHeld: another job is refreshing this model.
        LeaseLost: this one could not renew its lease in time; the trial goes on with the next run.
        CanaryError: the gateway tells no counts, or its configuration is in the way.
        ConfigError: the gateway's configuration is not valid.
    """
    limits = plan.settings_of(recipe).canary
    folder = RefreshFolder(models, recipe.name)
    if limits is None or record.pending(folder) is None:
        return None
    with Lease(folder.path) as lease:
        found = record.pending(folder)
        if found is None:  # another job has ended it meanwhile
            return None
        repository = ModelRepository(models)
        return _Trying(*found, limits, repository, progress, lease).run(stop, look_s)


class _Trying:
    """A trial under way."""

    def __init__(
        self,
        run: Run,
        report: Report,
        limits: Canary,
        repository: ModelRepository,
        progress: Progress,
        lease: Lease,
    ) -> None:
        assert report.champion is not None  # noqa: S101 (only what follows one is tried)
        assert report.version is not None  # noqa: S101 (a trial is of a published version)
        self._run, self._limits = run, limits
        self._name, self._version, self._champion = report.model, report.version, report.champion
        self._repository, self._progress, self._lease = repository, progress, lease
        self._gateway = Gateway(limits, report.model)

    def run(self, stop: Stop, look_s: float) -> Trial:
        trial = record.of(self._run) or self._begin()
        if self._repository.held(self._name).trial == self._version:
            self._gateway.split(self._champion, self._version, self._limits.share)
            trial = self._watch(trial, stop, look_s)
        else:
            trial = self._ended_elsewhere(trial)
        return self._write(trial)

    def _begin(self) -> Trial:
        return self._write(
            Trial(
                model=self._name,
                version=self._version,
                champion=self._champion,
                begun=plan.now(),
                before=self._gateway.counts(),
            )
        )

    def _watch(self, trial: Trial, stop: Stop, look_s: float) -> Trial:
        limits, until = self._limits, time.monotonic() + self._limits.wait_s
        with self._progress.counted(f"try version {self._version}", limits.requests) as advance:
            shown = 0
            while True:
                last = stop() or time.monotonic() > until
                trial = self._look(trial, last=last)
                advance(min(trial.calls, limits.requests) - shown)
                shown = min(trial.calls, limits.requests)
                if last or trial.verdict != "running":
                    return trial
                time.sleep(look_s)

    def _look(self, trial: Trial, *, last: bool) -> Trial:
        if self._repository.held(self._name).trial != self._version:
            return self._ended_elsewhere(trial)
        if moved := list(self._moved()):
            return self._end(trial, moved)
        try:
            now = self._gateway.counts()
        except CanaryError as error:  # it may be starting anew
            return msgspec.structs.replace(trial, reasons=(str(error),))
        champion, tried = (
            now.get(version, Counts()).since(trial.before.get(version, Counts()))
            for version in (self._champion, self._version)
        )
        trial = msgspec.structs.replace(trial, calls=tried.calls, reasons=())
        if alarms := judgement.alarms(champion, tried, self._limits):
            return self._end(trial, alarms)
        if tried.calls >= self._limits.requests:
            return self._judge(trial, champion, tried)
        return self._too_few(trial, champion) if last else trial

    def _moved(self) -> Iterator[str]:
        """What makes the comparison one with a version that is not served any more."""
        serving = self._repository.serving(self._name)
        if serving != self._champion:
            yield f"version {serving} is served meanwhile, no more {self._champion}"
        elif self._repository.pinned(self._name) is not None:
            yield f"version {serving} was pinned meanwhile"

    def _judge(self, trial: Trial, champion: Counts, tried: Counts) -> Trial:
        faults = judgement.faults(champion, tried, self._limits)
        if not faults:
            trial = self._asked(trial)
            if trial.agreement is not None:
                faults = trial.agreement.faults(self._limits.min_agreement)
        return self._end(trial, faults)

    def _asked(self, trial: Trial) -> Trial:
        inputs = agreement.sample(self._gateway.request_log, self._name)
        if not inputs:
            return trial
        versions = (self._champion, self._version)
        try:
            with self._gateway.client() as client:
                found = agreement.compare(client, self._name, versions, inputs)
        except ServingError as error:
            raise CanaryError(f"{self._name}: the champion can't be asked: {error}") from error
        return msgspec.structs.replace(trial, agreement=found)

    def _too_few(self, trial: Trial, champion: Counts) -> Trial:
        expected = champion.calls * self._limits.share
        if not trial.calls and expected >= _FEW:
            return self._end(
                trial,
                [f"it has had none of some {expected:.0f} calls: the backend does not serve it"],
            )
        short = f"{trial.calls} of canary.requests {self._limits.requests} calls so far"
        return msgspec.structs.replace(trial, reasons=(short,))

    def _end(self, trial: Trial, faults: list[str]) -> Trial:
        self._lease.check()
        if faults:
            self._repository.withdraw(self._name)
        else:
            self._repository.promote(self._name)
        return self._conclude(trial, "withdrawn" if faults else "promoted", tuple(faults))

    def _ended_elsewhere(self, trial: Trial) -> Trial:
        gone = self._version in self._repository.held(self._name)
        return self._conclude(
            trial,
            "withdrawn" if gone else "promoted",
            ("ended by hand, or by a run that was killed",),
        )

    def _conclude(self, trial: Trial, verdict: Verdict, reasons: tuple[str, ...]) -> Trial:
        self._gateway.split_no_more(self._champion, self._version)
        return msgspec.structs.replace(trial, verdict=verdict, reasons=reasons, ended=plan.now())

    def _write(self, trial: Trial) -> Trial:
        record.write(self._run, trial)
        return trial
