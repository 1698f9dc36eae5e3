"""Laws of pictures: one decoding for all, upright and RGB; what can't be used is told and why."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from bundle.errors import InputError
from bundle.manifest import ImagePreprocess
from bundle.preprocess import ImagePreprocessor

SPEC = ImagePreprocess(height=8, width=12, max_pixels=10_000)


@pytest.fixture(scope="module")
def preprocessor() -> ImagePreprocessor:
    return ImagePreprocessor(SPEC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    across = np.tile(np.linspace(0, 255, width), (height, 1))
    down = np.tile(np.linspace(0, 255, height)[:, None], (1, width))
    return Image.fromarray(np.stack([across, down, 0 * down], -1).astype(np.uint8))


def pixels(preprocessor: ImagePreprocessor, picture: bytes) -> NDArray[np.uint8]:
    (found,) = preprocessor([picture])["pixels"]
    return found


@pytest.mark.parametrize("size", [(12, 8), (3, 2), (96, 64), (99, 7)])
def test_every_picture_becomes_the_manifests_tensor(
    preprocessor: ImagePreprocessor, size: tuple[int, int]
) -> None:
    found = preprocessor([encoded(gradient(*size))] * 2)
    assert {name: str(each.dtype) for name, each in found.items()} == SPEC.inputs
    assert found["pixels"].shape == (2, *SPEC.variants["pixels"])


@pytest.mark.parametrize(("kind", "apart"), [("PNG", 0), ("WEBP", 12), ("JPEG", 12)])
def test_the_format_matters_no_more_than_it_loses(
    preprocessor: ImagePreprocessor, kind: str, apart: int
) -> None:
    whole = pixels(preprocessor, encoded(gradient(96, 64))).astype(int)
    found = pixels(preprocessor, encoded(gradient(96, 64), kind, quality=95))
    assert np.abs(found - whole).max() <= apart


def test_resizing_is_antialiased(preprocessor: ImagePreprocessor) -> None:
    """A fine checkerboard becomes grey, not a coarser checkerboard."""
    board = np.indices((64, 96)).sum(0) % 2 * 255
    found = pixels(preprocessor, encoded(Image.fromarray(board.astype(np.uint8))))
    assert np.abs(found.astype(int) - 127).max() < 10


def test_a_picture_is_turned_upright(preprocessor: ImagePreprocessor) -> None:
    """Phones store how they were held beside the pixels."""
    turned = Image.Exif()
    turned[0x0112] = 6  # the right side of what was stored is at the top
    stored = gradient(12, 8).transpose(Image.Transpose.ROTATE_90)
    found = pixels(preprocessor, encoded(stored, exif=turned))
    np.testing.assert_array_equal(found, np.asarray(gradient(12, 8)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16", "1"])
def test_every_mode_becomes_rgb(preprocessor: ImagePreprocessor, mode: str) -> None:
    image = gradient(12, 8)
    changed = image.convert("L").convert("I") if mode == "I;16" else image
    changed = changed.convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert pixels(preprocessor, encoded(changed, kind)).shape == (8, 12, 3)


def test_what_is_transparent_is_white(preprocessor: ImagePreprocessor) -> None:
    clear = Image.new("RGBA", (12, 8), (200, 0, 0, 0))
    assert (pixels(preprocessor, encoded(clear)) == 255).all()


@pytest.mark.parametrize(("mode", "copies"), [("RGB", 1), ("RGBA", 2)])
def test_a_large_picture_is_in_memory_no_oftener_than_needed(
    mode: str, copies: int, peak_growth: Callable[[], Callable[[], int]]
) -> None:
    side = 3000
    picture = encoded(Image.new(mode, (side, side)))
    preprocessor = ImagePreprocessor(ImagePreprocess(height=8, width=12))
    grown_bytes = peak_growth()
    pixels(preprocessor, picture)
    assert grown_bytes() < (copies + 0.5) * 4 * side**2


def test_another_size_is_for_training(preprocessor: ImagePreprocessor) -> None:
    assert preprocessor.decode(encoded(gradient(12, 8)), 5, 7).shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("picture", "field", "expected"),
    [
        (b"", "image", "is no JPEG, PNG, WEBP picture"),
        (b"GIF89a" + bytes(20), "image", "is no JPEG, PNG, WEBP picture"),
        (encoded(gradient(101, 100)), "image", "has 101 × 100 pixels, the limit is 10000"),
        (bytes((1 << 26) + 1), "image", "bytes, the limit is 67108864"),
        (encoded(gradient(50, 50))[:-30], "image", "is damaged"),
        (encoded(gradient(50, 50), "JPEG")[:-200], "image", "is damaged"),
        ("a film", "text", "is not what this model takes; send `image`"),
    ],
)
def test_what_cant_be_used_is_refused(
    preprocessor: ImagePreprocessor, picture: bytes, field: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        preprocessor([picture])
    assert caught.value.field == field


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_other_bytes_are_an_input_error(noise: bytes, cut: int) -> None:
    whole = encoded(gradient(9, 9))
    for picture in (noise, whole[:cut] + noise + whole[cut + len(noise) :]):
        try:
            found = ImagePreprocessor(SPEC)([picture])
        except InputError:
            continue
        assert found["pixels"].shape == (1, 8, 12, 3)
