"""What the tests of training share: the tiny task, its data, and small parts of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bundle import archive
from bundle.manifest import EDGE_MODEL_FILE, Profile
from finetune import checkpoint
from finetune.data.batches import Encoded
from finetune.export import tflite
from finetune.export.candidate import Candidate
from finetune.export.serving_model import ServingModel
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.tasks.base import TaskData
from finetune.tasks.text_classification import TextClassification


@pytest.fixture(scope="session")
def recipe(tiny_recipe: Any) -> Recipe:
    return tiny_recipe()


@pytest.fixture(scope="session")
def task(recipe: Recipe) -> TextClassification:
    return TextClassification(recipe)


@pytest.fixture(scope="session")
def data(task: TextClassification) -> TaskData:
    return task.load_data()


@pytest.fixture(scope="session")
def short_data(data: TaskData) -> TaskData:
    """16 training examples of one bucket: two steps of one shape."""
    picks = [index for index, ids in enumerate(data.train.ids) if len(ids) <= 8][:16]
    ids = [data.train.ids[index] for index in picks]
    texts = tuple(data.train.texts[index] for index in picks)
    return dataclasses.replace(data, train=Encoded(ids, data.train.labels[picks], texts))


@pytest.fixture(scope="session")
def candidate(published: Any, task: TextClassification, data: TaskData) -> Candidate:
    """The published model, taken up again from its weights."""
    model = task.build_model()
    checkpoint.restore(published.outcome.saved.path / "variables" / "variables", model=model)
    return Candidate(
        recipe=published.recipe,
        task=task,
        data=data,
        model=ServingModel(task, model),
        result=task.measure(model, data.test, progress=Silent(), title=""),
    )


@pytest.fixture(scope="session")
def converted(published: Any, candidate: Candidate) -> dict[Profile, bytes]:
    """The tiny model as a TFLite file of each profile."""
    (path,) = published.outcome.edge
    variants = candidate.task.preprocessor.spec.variants
    return {
        "dynamic_int8": archive.unpack(path)[EDGE_MODEL_FILE],
        "float16": tflite.convert(candidate.model, variants, "float16"),
        "float32": tflite.convert(candidate.model, variants, "float32"),
    }
