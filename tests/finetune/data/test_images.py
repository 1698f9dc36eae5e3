"""Laws of pictures: only a whole one of a known format and size passes, and it reads back."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune.data import images
from finetune.data.images import Picture
from finetune.errors import DataError


def encoded(kind: str, height: int = 20, width: int = 30, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("kind", images.FORMATS)
def test_height_comes_before_width(kind: str) -> None:
    assert images.measure(encoded(kind), "x") == (20, 30)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "P")])
def test_the_mode_does_not_matter(kind: str, mode: str) -> None:
    assert images.measure(encoded(kind, mode=mode), "x") == (20, 30)


@pytest.mark.parametrize("kind", images.FORMATS)
def test_a_picture_cut_off_anywhere_is_named(kind: str) -> None:
    whole = encoded(kind)
    for end in range(len(whole)):
        with pytest.raises(DataError, match="photo: not a whole JPEG, PNG, WEBP file: "):
            images.measure(whole[:end], "photo")


@pytest.mark.parametrize("content", [b"", b"a fine film", encoded("BMP"), encoded("GIF", mode="L")])
def test_what_is_no_picture_is_named(content: bytes) -> None:
    with pytest.raises(DataError, match=r"photo: .*: no picture\. Replace or delete it"):
        images.measure(content, "photo")


@pytest.mark.parametrize("side", [7_100, 13_000, 20_000])
def test_a_bomb_is_not_unpacked(side: int) -> None:
    """A PNG of few bytes that says it is huge: refused from its head, with no warning."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match="pixels"):
            images.measure(bomb, "photo")


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="photo: has 67108865 bytes, the limit is 67108864; shrink"):
        images.measure(bytes(images.MOST_BYTES + 1), "photo")


def test_a_stretch_of_a_file_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(b"abcdef")
    assert Picture(path, 2, 3, "", 1, 1).read() == b"cde"
    with pytest.raises(DataError, match="shard: has become shorter"):
        Picture(path, 4, 3, "", 1, 1).read()
    with pytest.raises(DataError, match="gone: No such file"):
        Picture(tmp_path / "gone", 0, 1, "", 1, 1).read()
