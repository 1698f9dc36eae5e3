"""Raw input → tensors. Training, gateway and edge all run this package and no other."""

from __future__ import annotations

from collections.abc import Callable

from bundle.manifest import ImagePreprocess, Preprocess
from bundle.preprocess.image import ImagePreprocessor
from bundle.preprocess.raw import Raw, Tensors
from bundle.preprocess.text import Ids, TextPreprocessor

__all__ = [
    "Ids",
    "ImagePreprocessor",
    "Preprocessor",
    "Raw",
    "Tensors",
    "TextPreprocessor",
    "create",
]

Preprocessor = TextPreprocessor | ImagePreprocessor


def create(spec: Preprocess, read: Callable[[str], bytes]) -> Preprocessor:
    """The preprocessor that a manifest describes.

    Args:
        read: file name → its content, for the files that `spec` names.

    Raises:
        ManifestError: a file is not what it should be.
    """
    if isinstance(spec, ImagePreprocess):
        return ImagePreprocessor(spec)
    return TextPreprocessor(read(spec.tokenizer), spec)
