"""What `tensorseek train --workers` does: processes that share each batch, and who starts them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from bundle.repository import ModelRepository
from tensorseek import process

Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that share each batch, as multi_worker.")
]
Launcher = Annotated[Literal["local", "ray"], typer.Option(help="Who starts the workers.")]
Retries = Annotated[
    int, typer.Option(min=0, help="How often all workers start again when one is lost.")
]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training for several workers."""

    recipe: Path
    overrides: Sequence[str]  # as of `--set`; see `spread`
    models: Path
    runs: Path
    workers: int
    retries: int


def local(job: Job, *, as_json: bool) -> None:
    """Runs the job in workers on this machine; the chief says what came out of it."""
    from finetune import launch
    from finetune import recipe as recipes

    parsed = recipes.load(job.recipe, job.overrides)
    plan = launch.Launch(
        command=_command(job, as_json=as_json),
        workers=job.workers,
        retries=job.retries,
        logs=job.runs / parsed.name / "workers",
        environment=process.followed(),
    )
    stop = process.asked_to_stop()
    launch.run(plan, say=lambda line: typer.echo(line, err=True), stop=stop)


def ray(job: Job) -> bool:
    """Runs the job in workers of Ray's; tells whether it published a new version."""
    from finetune import ray_trainer
    from finetune import recipe as recipes

    recipe = recipes.load(job.recipe, job.overrides)
    repository = ModelRepository(job.models)
    before = repository.versions(recipe.name)
    ray_trainer.train(
        recipe,
        workers=job.workers,
        retries=job.retries,
        models=job.models,
        runs=job.runs,
    )
    return repository.versions(recipe.name) != before


def spread(overrides: Sequence[str]) -> list[str]:
    """The overrides that make of any recipe one for several workers."""
    return [*overrides, "distribution.strategy=multi_worker"]


def _command(job: Job, *, as_json: bool) -> list[str]:
    command = [sys.executable, "-m", "tensorseek.cli", "train", str(job.recipe)]
    command += ["--models", str(job.models), "--runs", str(job.runs)]
    for override in job.overrides:
        command += ["--set", override]
    return command + ["--json"] * as_json
