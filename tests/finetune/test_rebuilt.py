"""Laws of rebuilding: the same recipe, data and weights are worth what they were worth before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundle import integrity
from finetune.data import jsonl
from finetune.errors import TrainingError
from finetune.evaluate import Classified
from finetune.progress import Silent
from finetune.rebuilt import Rebuilt


@pytest.fixture(scope="module")
def rebuilt(published: Any) -> Rebuilt:
    return Rebuilt(published.recipe)


def test_it_knows_the_job_that_made_it(rebuilt: Rebuilt, published: Any) -> None:
    assert rebuilt.job == published.outcome.saved.manifest.provenance.recipe_sha256


def test_it_is_worth_what_was_recorded(rebuilt: Rebuilt, published: Any) -> None:
    saved = published.outcome.saved
    result = rebuilt.measure(saved.path / "variables" / "variables", Silent())
    metrics = result.metrics(rebuilt.data.test_sha256)
    assert metrics["accuracy"] == saved.manifest.metrics["accuracy"]


def test_other_data_needs_none_of_the_recipes(published: Any, tmp_path: Path) -> None:
    data = {name: tmp_path / f"gone-{name}.jsonl" for name in ("train", "dev", "test")}
    moved = published.recipe.data.model_copy(update=data)
    recipe = published.recipe.model_copy(update={"data": moved})
    other = tmp_path / "other.jsonl"
    jsonl.write(other, [("a very good film", "positive")])
    found = Rebuilt(recipe, other)
    assert found.data.test_sha256 == integrity.sha256_file(other)
    result = found.measure(published.outcome.saved.path / "variables" / "variables", Silent())
    assert isinstance(result, Classified)
    assert result.score == 1


def test_weights_that_are_not_there_are_named(rebuilt: Rebuilt, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=rf"^{tmp_path / 'weights'}: can't be read"):
        rebuilt.measure(tmp_path / "weights", Silent())
