"""A labelled data set as the raw inputs that anyone would send to the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.preprocess import ImagePreprocessor, Preprocessor, Raw
from finetune.data import source
from finetune.data.images import Picture
from finetune.metrics.worst import Shown
from finetune.report import thumbnail


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """N inputs with the index of each one's label."""

    inputs: tuple[str, ...] | tuple[Picture, ...]
    labels: NDArray[np.int32]  # [N]

    def __len__(self) -> int:
        return len(self.inputs)

    def raw(self, index: int) -> Raw:
        """A text, or a picture's encoded content."""
        found = self.inputs[index]
        return found.read() if isinstance(found, Picture) else found

    def show(self, index: int) -> Shown:
        """An input for a person."""
        found = self.inputs[index]
        origin = str(found.path) if isinstance(found, Picture) else ""
        return thumbnail.show(self.raw(index), origin)


def read(
    path: Path, labels: tuple[str, ...], preprocessor: Preprocessor, settings: Mapping[str, Any]
) -> Labelled:
    """Reads and checks a whole data set.

    Args:
        labels: the model's.
        preprocessor: the model's: it refuses what the model can't take.
        settings: the recipe's `data`, for the names of a CSV file's columns.

    Raises:
        DataError: names the file, the place in it and the reason.
    """
    inputs: tuple[str, ...] | tuple[Picture, ...]
    if isinstance(preprocessor, ImagePreprocessor):
        images = source.read_images(path, labels)
        inputs, found = images.pictures, images.labels
    else:
        columns = {key: settings[key] for key in ("text_column", "label_column") if key in settings}
        examples = source.read_text(path, labels, preprocessor.check, **columns)
        inputs, found = examples.texts, examples.labels
    return Labelled(inputs=inputs, labels=np.asarray(found, np.int32))
