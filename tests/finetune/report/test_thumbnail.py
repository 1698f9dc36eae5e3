"""Laws of what is shown of an example: a text whole, a picture small and in its proportions."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from finetune.metrics.worst import Shown
from finetune.report import thumbnail


def encoded(mode: str, size: tuple[int, int], kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, kind)
    return content.getvalue()


def test_a_text_is_shown_whole() -> None:
    assert thumbnail.show("a fine film", "example 7") == Shown(content="a fine film")


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "1", "LA"])
def test_a_picture_is_made_small(mode: str) -> None:
    shown = thumbnail.show(encoded(mode, (400, 200)), "cats/7.png")
    assert shown.content == "cats/7.png"
    assert shown.picture is not None
    with Image.open(io.BytesIO(shown.picture)) as image:
        assert (image.format, image.size) == ("JPEG", (96, 48))


def test_a_small_picture_stays_as_large_as_it_is() -> None:
    shown = thumbnail.show(encoded("RGB", (8, 8)), "x")
    assert shown.picture is not None
    with Image.open(io.BytesIO(shown.picture)) as image:
        assert image.size == (8, 8)
