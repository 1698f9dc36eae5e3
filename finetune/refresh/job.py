"""One refresh, from new files to a report; killed at any step, it goes on when it runs again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bundle.repository import ModelRepository, SavedBundle
from finetune import pipeline, trainer
from finetune.errors import GateRefused, RefreshError
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.refresh import contest, items, page, plan, promote
from finetune.refresh.checks import Findings
from finetune.refresh.contest import Compared
from finetune.refresh.folder import Plan, RefreshFolder, Report, Run, Verdict
from finetune.refresh.lease import Lease
from finetune.trainer import Stop


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What a run came to."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    saved: SavedBundle | None = None
    edge: tuple[str, ...] = ()
    compared: Compared = field(default_factory=Compared)


def run(
    recipe: Recipe,
    *,
    models: Path,
    progress: Progress,
    stop: Stop = trainer.never,
) -> Report:
    """Looks for new data, and where there are enough, trains, compares and publishes or refuses.

    Args:
        models: the model repository.
        stop: asked in each step of the training; when it says so, the state is saved.

    Returns:
        What came of it. Only a report with the verdict "nothing new" leaves nothing on the disk.

    Raises:
        LeaseHeld: another job is refreshing this model.
        LeaseLost: this one could not renew its lease in time; nothing was published.
        RefreshError: the recipe doesn't fit the champion, new data can't be reached, or a version
            is on trial.
        DataError: the recipe's own data can't be used.
        Interrupted: `stop` said so; running again goes on from there.
    """
    folder = RefreshFolder(models, recipe.name)
    repository = ModelRepository(models)
    with Lease(folder.path) as lease:
        folder.sweep(repository.versions(recipe.name))
        found = _next(recipe, folder, repository)
        if isinstance(found, Findings):
            report = _nothing(recipe, repository, found)
        else:
            report = _Refresh(recipe, found, repository, progress, stop, lease).run()
        for version in _outdated(recipe, repository):
            repository.remove(recipe.name, version)
        return report


def _outdated(recipe: Recipe, repository: ModelRepository) -> list[int]:
    if not repository.versions(recipe.name):
        return []
    return repository.outdated(recipe.name, plan.settings_of(recipe).keep)


def _next(recipe: Recipe, folder: RefreshFolder, repository: ModelRepository) -> Run | Findings:
    """The unfinished run if it still makes sense, else a new one."""
    champion = _champion(recipe, repository)
    unfinished = folder.unfinished()
    if unfinished is not None:
        run, planned = unfinished
        version = None if champion is None else champion.manifest.version
        as_it_was = planned.champion == version or _staged_is_out(run, recipe.name, repository)
        if as_it_was and planned.recipe_sha256 == plan.recipe_sha256(recipe):
            return run
        if _staged_is_out(run, recipe.name, repository):
            repository.withdraw(recipe.name)
        folder.discard(run)
    _check_no_trial(recipe.name, repository)
    return plan.settle(recipe, folder, champion)


def _check_no_trial(name: str, repository: ModelRepository) -> None:
    trial = repository.held(name).trial
    if trial is not None:
        raise RefreshError(
            f"{name}: version {trial} is on trial; give refresh.canary again so that its trial can "
            f"go on, or end it with: tensorseek models withdraw {name}"
        )


def _champion(recipe: Recipe, repository: ModelRepository) -> SavedBundle | None:
    if not repository.versions(recipe.name):
        return None
    champion = repository.load(recipe.name)
    contest.check_labels(champion, recipe)
    return champion


def _staged_is_out(run: Run, name: str, repository: ModelRepository) -> bool:
    """Whether a run was killed after it had published."""
    staging = ModelRepository(run.staged)
    if not staging.versions(name):
        return False
    return promote.published(repository, staging.load(name, verify=False)) is not None


def _nothing(recipe: Recipe, repository: ModelRepository, findings: Findings) -> Report:
    known = repository.versions(recipe.name)
    needed = plan.settings_of(recipe).checks.min_examples
    count = findings.learn + findings.test
    return Report(
        model=recipe.name,
        run="",
        begun=plan.now(),
        ended=plan.now(),
        verdict="nothing new",
        reasons=(f"{count} new examples; checks.min_examples asks for {needed}",),
        champion=repository.serving(recipe.name) if known else None,
        version=None,
        files=(),
        findings=findings,
    )


class _Refresh:
    """A run whose plan is settled."""

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        repository: ModelRepository,
        progress: Progress,
        stop: Stop,
        lease: Lease,
    ) -> None:
        planned = run.plan()
        assert planned is not None, "a run is found by its plan"  # noqa: S101
        self._plan: Plan = planned
        self._recipe, self._folder, self._repository = recipe, run, repository
        self._progress, self._stop, self._lease = progress, stop, lease
        self._champion = (
            None if planned.champion is None else repository.load(recipe.name, planned.champion)
        )

    def run(self) -> Report:
        faults = self._plan.findings.faults
        outcome = _Outcome(verdict="refused", reasons=faults) if faults else self._contend()
        self._lease.check()
        report = self._report(outcome)
        self._folder.finish(report, page.render(report, self._recipe))
        return report

    def _contend(self) -> _Outcome:
        staging = ModelRepository(self._folder.staged)
        try:
            challenger = self._train()
        except GateRefused as refused:
            return _Outcome(verdict="kept", reasons=(str(refused),))
        compared = self._compare(challenger)
        if compared.faults:
            return _Outcome(verdict="kept", reasons=compared.faults, compared=compared)
        self._lease.check()
        with self._progress.timed("publish", expected_s=2):
            saved = promote.promote(
                self._repository, staging, challenger, on_trial=self._wants_trial()
            )
        edge = self._recipe.edge.profiles
        return _Outcome(verdict="published", saved=saved, edge=edge, compared=compared)

    def _wants_trial(self) -> bool:
        """Who has pinned a version wants that one to answer, whatever is published."""
        asked = plan.settings_of(self._recipe).canary is not None
        return asked and self._repository.pinned(self._recipe.name) is None

    def _train(self) -> SavedBundle:
        """The challenger with its edge bundles, in a repository of its own."""
        settings = self._recipe.data
        train = items.place(self._folder.train, plan.TRAIN, self._recipe)
        recipe = self._recipe.model_copy(
            update={"data": settings.model_copy(update={"train": train})}
        )
        wish = plan.settings_of(recipe).start
        return pipeline.run(
            recipe,
            models=self._folder.staged,
            runs=self._folder.training,
            progress=self._progress,
            stop=self._stop,
            start=self._champion if wish == "champion" else None,
        ).saved

    def _compare(self, challenger: SavedBundle) -> Compared:
        if self._champion is None:
            return Compared()
        has_new = self._plan.findings.test > 0
        kept = items.place(self._folder.new, plan.TEST, self._recipe) if has_new else None
        return contest.judge(self._champion, challenger, self._recipe, kept, self._progress)

    def _report(self, outcome: _Outcome) -> Report:
        planned, compared = self._plan, outcome.compared
        version = None if outcome.saved is None else outcome.saved.manifest.version
        on_trial = version is not None and self._repository.held(self._recipe.name).trial == version
        return Report(
            model=self._recipe.name,
            run=planned.run,
            begun=planned.begun,
            ended=plan.now(),
            verdict=outcome.verdict,
            reasons=outcome.reasons,
            champion=planned.champion,
            version=version,
            on_trial=on_trial,
            files=planned.files,
            findings=planned.findings,
            holdout=compared.holdout,
            new=compared.new,
            likelihood=compared.likelihood,
            new_likelihood=compared.new_likelihood,
            edge=outcome.edge,
        )
