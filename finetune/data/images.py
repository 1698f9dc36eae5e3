"""Labelled pictures, still encoded: each is a file, or a stretch of a shard."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from finetune.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 50_000_000
MOST_BYTES = 1 << 26
_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Picture:
    """Where an encoded picture lies, what it is, and how large in pixels."""

    path: Path
    offset: int  # bytes into the file
    size_bytes: int
    sha256: str  # of the encoded picture
    height: int
    width: int

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            DataError: the file has gone or become shorter.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                encoded = file.read(self.size_bytes)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}. Restore the file.") from error
        if len(encoded) < self.size_bytes:
            raise DataError(f"{self.path}: has become shorter while it was in use; restore it")
        return encoded


@dataclass(frozen=True)
class Images:
    """Pictures with the index of each one's label."""

    pictures: tuple[Picture, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pictures)


def measure(encoded: bytes, origin: str) -> tuple[int, int]:
    """Height and width of an encoded picture that is whole and not too large.

    Args:
        origin: the file, for the message.

    Raises:
        DataError: it is no JPEG, PNG or WebP, has too many pixels, or is cut off or damaged.
    """
    if len(encoded) > MOST_BYTES:
        raise DataError(f"{origin}: has {len(encoded)} bytes, the limit is {MOST_BYTES}; shrink it")
    try:
        return _measure(encoded)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises any of them, and names the buffer's address in some.
        problem = "no picture" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(
            f"{origin}: not a whole {', '.join(FORMATS)} file: {problem}. Replace or delete it."
        ) from error


def _measure(encoded: bytes) -> tuple[int, int]:
    with warnings.catch_warnings():  # of sizes that the limit below refuses, and of odd metadata
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{width} × {height} pixels are more than {MOST_PIXELS}")
            image.draft("L", (1, 1))  # a JPEG then costs half: every byte is read, few are shown
            image.load()
            if image.format == "PNG" and _PNG_END not in encoded:  # Pillow does without
                raise ValueError("its last chunk is missing")
    return height, width
