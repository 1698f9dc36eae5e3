"""Ray Train as the launcher, for those who have outgrown one machine.

    command ─► TensorflowTrainer ─┬─► worker 0, the chief   TF_CONFIG, set by Ray
                                  └─► worker 1              TF_CONFIG

Ray starts the workers, on its cluster or on this machine, and starts all again when one is lost:
they go on from the last saved state. Models, runs, data and the folder the command was started in
must be the same on every machine.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from finetune.errors import FinetuneError, LeftToChief, TrainingError, WorkerLost
from finetune.progress import Silent
from finetune.recipe import Recipe, parse

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the cluster unasked


def train(recipe: Recipe, *, workers: int, retries: int, models: Path, runs: Path) -> None:
    """Trains and publishes a recipe whose distribution is `multi_worker`.

    Args:
        retries: further attempts after a worker failed or was lost.

    Raises:
        FinetuneError: a worker failed in each attempt; the error is the worker's own.
    """
    trainer = TensorflowTrainer(
        _work,
        train_loop_config={
            "recipe": recipe.model_dump(mode="json"),
            "models": str(models),
            "runs": str(runs),
            "folder": str(Path.cwd()),
        },
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=_has_gpus(workers)),
        run_config=RunConfig(
            name=recipe.name,
            storage_path=str((runs / "ray").resolve()),
            failure_config=FailureConfig(max_failures=retries),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _own(error) from error


def _has_gpus(workers: int) -> bool:
    if not ray.is_initialized():
        ray.init()
    return bool(ray.cluster_resources().get("GPU", 0) >= workers)


def _work(config: dict[str, Any]) -> None:
    """One worker's part, in a process of Ray's."""
    from finetune import pipeline  # noqa: PLC0415 (only the workers need TensorFlow)

    os.chdir(config["folder"])
    models, runs = Path(config["models"]), Path(config["runs"])
    recipe = parse(config["recipe"], origin="recipe")
    with contextlib.suppress(LeftToChief):
        pipeline.run(recipe, models=models, runs=runs, progress=Silent())


def _own(error: Any) -> FinetuneError:
    """The worker's error inside Ray's: the cause, not what the others met because of it."""
    failures = getattr(error, "worker_failures", {}).values()
    ours = [failure for failure in failures if isinstance(failure, FinetuneError)]
    causes = [failure for failure in ours if not isinstance(failure, WorkerLost)]
    return next(iter([*causes, *ours]), TrainingError(" ".join(str(error).split())[:500]))
