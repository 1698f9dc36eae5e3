"""What `predict` and `edge run` share: their inputs, and the line that answers one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bundle.postprocess import LabelScore

Images = Annotated[
    list[Path] | None, typer.Option("--image", help="A JPEG, PNG or WebP file; repeatable.")
]


def read_inputs(
    texts: Sequence[str] | None, images: Sequence[Path] | None
) -> list[tuple[str, str | bytes]]:
    """What is to be classified, each with what it is shown as.

    Raises:
        BadParameter: there is nothing, or both texts and pictures.
    """
    if bool(texts) == bool(images):
        raise typer.BadParameter("give either texts, or pictures with --image FILE")
    if texts:
        return [(text, text) for text in texts]
    return [(str(path), path.read_bytes()) for path in images or ()]


def line(shown: str, labels: Sequence[LabelScore], as_json: bool, **more: Any) -> str:
    """An answer for a person, or for a script."""
    if not as_json:
        return "  ".join(f"{item.label} {item.score:.4f}" for item in labels)
    scores = {item.label: item.score for item in labels}
    return json.dumps({"input": shown, "label": labels[0].label, "scores": scores, **more})
