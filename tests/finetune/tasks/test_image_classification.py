"""Laws of image classification: plain pixels in, whatever network; what it can't take is told."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bundle import golden
from edge.runner import EdgeRunner
from finetune import pipeline
from finetune.errors import ModelError
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.tasks.image_classification import ImageClassification

LABELS = ("bar", "disc")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train, dev and test: a bright disc or a bright bar on noise."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for split, count in (("train", 64), ("dev", 16), ("test", 24)):
        for number in range(count):
            label = LABELS[number % 2]
            path = folder / split / label / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(generator, label))
    return folder


def picture(generator: np.random.Generator, label: str) -> bytes:
    down, across = np.indices((40, 32))
    row, column = generator.integers(12, 28), generator.integers(10, 22)
    far = (down - row) ** 2 + (across - column) ** 2
    shape = far < 60 if label == "disc" else abs(across - column) < 3
    noisy = generator.normal(90, 25, (40, 32, 3)) + 100 * shape[:, :, None]
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def image_recipe(pictures: Path) -> Any:
    """Makes a recipe over the pictures; arguments are its sections."""

    def make(**changes: Any) -> Recipe:
        content: dict[str, Any] = {
            "name": "shapes",
            "task": "image-classification",
            "scratch": {"layers": 1, "hidden": 128, "dropout": 0.0},
            "data": {
                **{name: str(pictures / name) for name in ("train", "dev", "test")},
                "labels": list(LABELS),
                "image": {"size": 32, "scales": [24, 32, 40]},
                "batch_size": 16,
            },
            "augment": {"flip": True, "contrast": 0.1},
            "optimizer": {"learning_rate": 0.003},
            "schedule": {"epochs": 12},
            "precision": "float32",
            "edge": {"gates": {"max_drop": 0.05, "min_agreement": 0.95}},
        }
        return Recipe.model_validate(content | changes)

    return make


def vit(folder: Path, kind: str = "ViT", **sizes: Any) -> Path:
    import transformers

    settings = {"image_size": 32, "patch_size": 8, "intermediate_size": 16} | sizes
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, **settings
    )
    model = getattr(transformers, f"TF{kind}ForImageClassification")(config)
    model(tf.zeros([1, 3, 32, 32]))
    model.save_pretrained(folder)
    return folder


def test_the_trained_network_is_the_same_in_cloud_and_edge(
    image_recipe: Any, tmp_path: Path
) -> None:
    """Learnt at several scales, served at one, with the picture as a caller sends it."""
    outcome = pipeline.run(
        image_recipe(), models=tmp_path / "models", runs=tmp_path / "runs", progress=Silent()
    )
    saved = outcome.saved
    assert saved.manifest.metrics["accuracy"].value > 0.9
    task = ImageClassification(image_recipe())
    data = task.load_data()
    serve = tf.saved_model.load(str(saved.path)).signatures["serving_default"]
    runner = EdgeRunner.open(outcome.edge[0])
    examples = golden.decode(saved.read(golden.FILE_NAME), "golden")
    assert len(examples.images) == 8

    def answer(raw: bytes) -> Any:
        return serve(pixels=tf.constant(task.preprocessor([raw])["pixels"]))["logits"].numpy()[0]

    assert golden.check(examples, answer, "cloud") < 1e-3
    agree = 0
    for place in range(len(data.test)):
        raw = task.raw(data.test, place)
        assert isinstance(raw, bytes)
        agree += int(answer(raw).argmax() == runner.logits(raw).argmax())
    assert agree >= 23
    (report,) = (tmp_path / "runs").glob("shapes/*/report.html")
    assert "shapes" in report.read_text()


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("ViT", {}), ("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2})],
)
def test_a_network_of_transformers_takes_the_recipes_head(
    image_recipe: Any, tmp_path: Path, kind: str, sizes: dict[str, Any]
) -> None:
    vit(tmp_path, kind, **sizes)
    recipe = image_recipe(scratch=None, base_model=str(tmp_path), data=one_scale(image_recipe))
    task = ImageClassification(recipe)
    model = task.build_model()
    data = task.load_data()
    batch = next(iter(task.training_batches(data, 0, 1)))
    logits = task.logits(model, batch, training=True)
    assert logits.shape == (16, 2)
    assert logits.dtype == tf.float32
    assert any("projection" in each.name for each in model.submodules)


def test_pixels_are_normalized_as_the_checkpoint_was_trained(
    image_recipe: Any, tmp_path: Path
) -> None:
    vit(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    recipe = image_recipe(scratch=None, base_model=str(tmp_path), data=one_scale(image_recipe))
    task = ImageClassification(recipe)
    model = task.build_model()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    expected = model(((pixels / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32)).logits
    found = task.answer(model, {"pixels": tf.constant(pixels)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_size_that_the_checkpoint_cant_take_is_named(image_recipe: Any, tmp_path: Path) -> None:
    vit(tmp_path)
    recipe = image_recipe(scratch=None, base_model=str(tmp_path))
    with pytest.raises(ModelError, match=r"takes no pictures of (24 × 24|40 × 40) pixels: "):
        ImageClassification(recipe).build_model()


def test_kernels_that_corrupt_memory_are_refused(image_recipe: Any, tmp_path: Path) -> None:
    """oneDNN's strided 1 × 1 convolution, met with several sizes: ResNet's shortcuts."""
    from transformers import ResNetConfig, TFResNetForImageClassification

    sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
    model = TFResNetForImageClassification(ResNetConfig(layer_type="basic", num_labels=2, **sizes))
    model(tf.zeros([1, 3, 32, 32]))
    from finetune.tasks import image_classification

    with pytest.raises(ModelError, match=r"data\.image\.scales: TFResNet.* strided 1 × 1"):
        image_classification._check_kernels(model)


def test_golden_pictures_are_of_every_label(image_recipe: Any) -> None:
    task = ImageClassification(image_recipe())
    data = task.load_data()
    places = task.golden_places(data.test, 8)
    assert len(places) == 8
    assert {data.test.labels[place] for place in places} == {0, 1}


def test_the_origin_of_a_picture_is_its_file(image_recipe: Any, pictures: Path) -> None:
    task = ImageClassification(image_recipe())
    assert task.origin(task.load_data().test, 0) == str(pictures / "test" / "bar" / "000.png")


def test_every_step_of_every_epoch_is_counted(image_recipe: Any) -> None:
    task = ImageClassification(image_recipe())
    data = task.load_data()
    assert len(list(task.training_batches(data, 0, 1))) == task.steps(data, 0) == 4


def one_scale(image_recipe: Any) -> dict[str, Any]:
    data: dict[str, Any] = image_recipe().data.model_dump(mode="json")
    return data | {"image": {"size": 32}}
