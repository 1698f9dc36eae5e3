"""An example, as small as a table needs it."""

from __future__ import annotations

import io

from PIL import Image

from bundle.preprocess import Raw
from finetune.metrics.worst import Shown

_SIDE = 96  # pixels, the longer one


def show(raw: Raw, origin: str) -> Shown:
    """A text as it is; a picture made small, under the name of where it comes from."""
    if isinstance(raw, str):
        return Shown(content=raw)
    with Image.open(io.BytesIO(raw)) as image:
        small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=85)
    return Shown(content=origin, picture=encoded.getvalue())
