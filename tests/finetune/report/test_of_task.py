"""Laws of a training's report: it holds what the training recorded and what the test found."""

from __future__ import annotations

from typing import Any

import numpy as np

from finetune import checkpoint
from finetune.evaluate import Classified, Modelled
from finetune.metrics.worst import HardSequence
from finetune.rebuilt import Rebuilt
from finetune.report import of_task, page


def test_it_tells_of_the_run(published: Any) -> None:
    (folder,) = (published.runs / "tiny").iterdir()
    figures = checkpoint.record(folder / "trained")
    assert figures is not None
    rebuilt = Rebuilt(published.recipe)
    labels = rebuilt.data.test.labels
    logits = np.eye(2, dtype=np.float32)[labels]
    logits[3] = logits[3, ::-1]
    result = Classified(logits, labels, published.recipe.data.labels)
    report = of_task.report(rebuilt.task, rebuilt.data, result, figures)
    assert report.training is not None
    assert report.training.losses == figures["losses"]
    assert len(report.training.dev_scores) == 5
    assert report.recipe == published.recipe.to_yaml()
    (wrong,) = report.worst
    assert (wrong.index, wrong.shown.content) == (3, rebuilt.data.test.texts[3])
    assert set(report.versions) > {"numpy", "tensorflow"}
    assert page.render(report).startswith("<!DOCTYPE html>")


def test_a_language_model_has_hard_sequences(published: Any) -> None:
    rebuilt = Rebuilt(published.recipe)
    result = Modelled(np.asarray([1.0, 9.0]), np.asarray([2, 2]))
    first, second = of_task.worst_examples(rebuilt.task, rebuilt.data.test, result)
    assert isinstance(first, HardSequence)
    assert (first.index, second.index) == (1, 0)
    assert first.shown.content == rebuilt.data.test.texts[1]
    training = of_task.training("text-generation", FIGURES)
    assert training.dev_measure == "log-likelihood of a token, nats"


FIGURES: dict[str, Any] = {
    "losses": [5.0],
    "examples_per_s": 1.0,
    "policy": "float32",
    "compilations": 1,
    "skipped_steps": 0,
    "best_epoch": 1,
    "dev_scores": [-4.5],
}
