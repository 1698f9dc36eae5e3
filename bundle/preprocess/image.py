"""Encoded picture → pixels.

JPEG, PNG, WebP ──decode──► upright ──► RGB ──► H × W   pixels  uint8 [B, H, W, 3]
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bundle.errors import InputError
from bundle.manifest import ImagePreprocess
from bundle.preprocess.raw import Raw

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_BYTES = 1 << 26


class ImagePreprocessor:
    """Turns encoded pictures into pixels, as its manifest says."""

    def __init__(self, spec: ImagePreprocess) -> None:
        self.spec = spec

    def check(self, encoded: Raw) -> None:
        """Refuses what the model can't take, without decoding all of it.

        Raises:
            InputError: it is no picture, no JPEG, PNG or WebP, or too large.
        """
        with self._open(encoded):
            pass

    def decode(self, encoded: Raw, height: int, width: int) -> NDArray[np.uint8]:
        """One picture at another size than the manifest's: uint8 [height, width, 3].

        Raises:
            InputError: see `check`; or it is cut off or damaged.
        """
        with self._open(encoded) as image:
            # A JPEG is decoded at the smallest of its scales that is still large enough.
            image.draft("RGB", (2 * width, 2 * height))
            try:
                ImageOps.exif_transpose(image, in_place=True)
                resized = _rgb(image).resize((width, height), Image.Resampling.BILINEAR)
            except (OSError, ValueError, SyntaxError) as error:
                raise InputError("image", f"is damaged: {error}; send the whole file") from error
            return np.asarray(resized, np.uint8)

    def __call__(self, pictures: Sequence[Raw]) -> dict[str, NDArray[np.uint8]]:
        """Decodes B pictures.

        Raises:
            InputError: one of them can't be used.
        """
        spec = self.spec
        rows = [self.decode(encoded, spec.height, spec.width) for encoded in pictures]
        return {"pixels": np.stack(rows)}

    def _open(self, encoded: Raw) -> Image.Image:
        if isinstance(encoded, str):
            raise InputError("text", "is not what this model takes; send `image`")
        if len(encoded) > MAX_BYTES:
            problem = f"has {len(encoded)} bytes, the limit is {MAX_BYTES}; send a smaller picture"
            raise InputError("image", problem)
        try:
            with warnings.catch_warnings():  # of sizes that the limit below refuses
                warnings.simplefilter("ignore")
                image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            known = ", ".join(FORMATS)
            raise InputError("image", f"is no {known} picture; send one of these") from error
        width, height = image.size
        if width * height > self.spec.max_pixels:
            problem = f"has {width} × {height} pixels, the limit is {self.spec.max_pixels}"
            raise InputError("image", f"{problem}; send a smaller picture")
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white, as a page would show it.

    A copy of 50 megapixels takes 200 MB, so there are no more of them than needed.
    """
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    shown = image if image.mode == "RGBA" else image.convert("RGBA")
    opaque = Image.new("RGB", shown.size, "white")
    opaque.paste(shown, mask=shown)
    return opaque
