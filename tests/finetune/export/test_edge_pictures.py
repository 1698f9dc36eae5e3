"""Law: a strict int8 model of pictures takes plain bytes, in the runner as in the gate."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle import archive, manifest
from bundle.repository import ModelRepository
from edge.runner import EdgeRunner
from finetune import tasks
from finetune.export import edge_bundle, saved_model
from finetune.export.candidate import Candidate
from finetune.export.serving_model import ServingModel
from finetune.progress import Silent
from finetune.recipe import Recipe

LABELS = ("dark", "light")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("dev", 12), ("test", 12)):
        for number in range(count):
            label = LABELS[number % 2]
            path = folder / split / label / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            content = generator.normal(80 + 90 * (number % 2), 40, (40, 32, 3))
            file = io.BytesIO()
            Image.fromarray(np.clip(content, 0, 255).astype(np.uint8)).save(file, "PNG")
            path.write_bytes(file.getvalue())
    return folder


@pytest.fixture(scope="module")
def shown(pictures: Path) -> Candidate:
    """A network as it is before any training: what it answers is of no matter here."""
    lax = {"max_drop": 1.0, "min_agreement": 0.0}
    recipe = Recipe.model_validate(
        {
            "name": "shades",
            "task": "image-classification",
            "scratch": {"layers": 1, "hidden": 128, "dropout": 0.0},
            "data": {
                **{name: str(pictures / name) for name in ("train", "dev", "test")},
                "labels": list(LABELS),
                "image": {"size": 32},
            },
            "precision": "float32",
            "edge": {"gates": lax, "full_int8": lax, "mixed_int8": lax},
        }
    )
    task = tasks.create(recipe)
    data, model = task.load_data(), task.build_model()
    result: Any = task.measure(model, data.test, progress=Silent(), title="")
    served = ServingModel(task, model)
    return Candidate(recipe=recipe, task=task, data=data, model=served, result=result)


@pytest.mark.parametrize(
    ("profile", "dtypes"), [("full_int8", ("uint8", "uint8")), ("mixed_int8", ("uint8", "float32"))]
)
def test_a_picture_is_answered_as_by_the_float_model(
    shown: Candidate, tmp_path: Path, profile: Any, dtypes: tuple[str, str]
) -> None:
    repository = ModelRepository(tmp_path)
    saved = saved_model.publish(repository, shown, saved_model.describe(shown, "0" * 64, {}))
    path = edge_bundle.publish(repository, saved, shown, profile, Silent())
    found = manifest.decode(archive.unpack(path)[manifest.FILE_NAME], "it")
    ((pixels,), (logits,)) = (found.signatures["pixels"].inputs, found.signatures["pixels"].outputs)
    assert (pixels.dtype, logits.dtype) == dtypes
    assert pixels.quantization == manifest.Quantization(scale=1.0, zero_point=0)
    assert (logits.quantization is None) == (profile == "mixed_int8")
    runner = EdgeRunner.open(path)
    answers = np.stack([runner.logits(shown.task.raw(shown.data.test, each)) for each in range(12)])
    expected = np.asarray(shown.result.logits)
    assert np.abs(answers - expected).max() < 0.15 * np.abs(expected).max()
