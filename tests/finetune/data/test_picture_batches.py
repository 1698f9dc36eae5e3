"""Laws of batches of pictures: each once, a scale a batch, the seed decides, as the bundle sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.manifest import ImagePreprocess
from bundle.preprocess import ImagePreprocessor
from finetune.data import image_folder
from finetune.data.augment_images import ImageNoise
from finetune.data.images import Images
from finetune.data.picture_batches import PictureBatches, Sizes, scale
from finetune.errors import DataError

SIZES = Sizes(evaluation=24, training=(16, 24, 32))
NOISE = ImageNoise(flip=True, rotation=0.05, zoom=0.1, contrast=0.2)


@pytest.fixture(scope="module")
def preprocessor() -> ImagePreprocessor:
    return ImagePreprocessor(ImagePreprocess(height=24, width=24))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """22 smooth pictures of two labels and of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(22):
        coarse = Image.fromarray(generator.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        path = folder / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        coarse.resize((30 + number, 60 - number), Image.Resampling.BICUBIC).save(path)
    return image_folder.read(folder, ("a", "b"))


@pytest.fixture(scope="module")
def pictures(images: Images, preprocessor: ImagePreprocessor) -> PictureBatches:
    return PictureBatches(images, preprocessor, SIZES)


def epoch(pictures: PictureBatches, **changes: Any) -> list[dict[str, np.ndarray]]:
    settings = {"noise": ImageNoise(), "seed": 0, "epoch": 0} | changes
    dataset = pictures.training(4, **settings)
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


@pytest.mark.parametrize("multiple", [1, 4])
def test_every_picture_once_an_epoch_with_its_label(
    pictures: PictureBatches, images: Images, multiple: int
) -> None:
    seen: list[int] = []
    for batch in epoch(pictures, multiple=multiple):
        counts = batch["weights"] == 1
        assert len(counts) % multiple == 0
        seen += batch["places"][counts].tolist()
        for place, label in zip(batch["places"], batch["labels"], strict=True):
            assert images.labels[place] == label
    assert sorted(seen) == list(range(22))


def test_a_batch_has_one_of_the_recipes_scales(pictures: PictureBatches) -> None:
    sizes = {
        batch["pixels"].shape[1:3] for number in range(4) for batch in epoch(pictures, epoch=number)
    }
    assert sizes == {(16, 16), (24, 24), (32, 32)}


def test_seed_and_epoch_decide(pictures: PictureBatches) -> None:
    first = epoch(pictures, noise=NOISE)
    for other, same in (({}, True), ({"seed": 1}, False), ({"epoch": 1}, False)):
        found = epoch(pictures, noise=NOISE, **other)
        equal = all(
            np.array_equal(a["pixels"], b["pixels"]) for a, b in zip(first, found, strict=True)
        )
        assert equal is same


def test_an_epoch_that_is_taken_up_goes_on_as_it_was(pictures: PictureBatches) -> None:
    whole = epoch(pictures, noise=NOISE)
    rest = pictures.training(4, noise=NOISE, seed=0, epoch=0).skip(3)
    for expected, batch in zip(whole[3:], rest, strict=True):
        np.testing.assert_array_equal(batch["pixels"].numpy(), expected["pixels"])


def test_noise_is_for_training_only(
    pictures: PictureBatches, images: Images, preprocessor: ImagePreprocessor
) -> None:
    """Evaluation is what the gateway and the edge would compute, bit by bit."""
    seen: list[int] = []
    for places, tensors in pictures.evaluation(5):
        expected = preprocessor([images.pictures[place].read() for place in places])
        np.testing.assert_array_equal(tensors["pixels"], expected["pixels"])
        seen += places
    assert seen == list(range(22))


def test_scaling_in_the_graph_is_near_the_bundles(
    images: Images, preprocessor: ImagePreprocessor
) -> None:
    """The parity that training needs: from the largest scale down, against straight down."""
    picture = images.pictures[0].read()
    largest = preprocessor.decode(picture, 32, 32)[None]
    for size in (16, 24):
        found = scale(largest, np.int32(size)).numpy()[0].astype(int)
        expected = preprocessor.decode(picture, size, size).astype(int)
        assert np.abs(found - expected).mean() < 3
        assert np.abs(found - expected).max() < 40
    np.testing.assert_array_equal(scale(largest, np.int32(32)), largest)


def test_pictures_that_do_not_fit_are_decoded_anew(
    images: Images, preprocessor: ImagePreprocessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = epoch(PictureBatches(images, preprocessor, SIZES), noise=NOISE)
    monkeypatch.setattr("finetune.data.picture_batches._KEPT_BYTES", 0)
    for expected, found in zip(
        kept, epoch(PictureBatches(images, preprocessor, SIZES), noise=NOISE), strict=True
    ):
        np.testing.assert_array_equal(found["pixels"], expected["pixels"])


def test_a_picture_that_breaks_meanwhile_is_named(
    tmp_path: Path, preprocessor: ImagePreprocessor
) -> None:
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    Image.new("RGB", (40, 40)).save(path)
    images = image_folder.read(tmp_path, ("a",))
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"1\.png, byte 0: image: is no JPEG"):
        list(PictureBatches(images, preprocessor, SIZES).evaluation(1))
