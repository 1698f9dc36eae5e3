"""A published model's answers to a labelled data set, batch by batch.

texts ───► token ids ─► by length bucket ─┐
pictures ─► in order ─────────────────────┴─► tensors ─► forward ─► logits, in the data's order
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bundle.preprocess import Preprocessor, Tensors, TextPreprocessor
from bundle.repository import SavedBundle
from finetune.data import batches
from finetune.errors import EvaluationError
from finetune.labelled import Labelled
from finetune.progress import Progress

Forward = Callable[..., Mapping[str, Any]]  # tensors by name → {"logits": [B, C]}
Batch = tuple[list[int], Tensors]

_BATCH = 64


def forward(saved: SavedBundle) -> Forward:
    """The function that a published SavedModel serves by default.

    Raises:
        EvaluationError: it has none.
    """
    signatures = tf.saved_model.load(str(saved.path)).signatures
    try:
        return signatures["serving_default"]  # type: ignore[no-any-return]
    except KeyError as error:
        raise EvaluationError(
            f"{saved.path}: has the signatures {sorted(signatures)}, not serving_default; "
            "publish it again"
        ) from error


def logits(
    model: Forward, preprocessor: Preprocessor, data: Labelled, progress: Progress
) -> NDArray[np.float32]:
    """The answers [N, C] to N examples."""
    rows: dict[int, NDArray[np.float32]] = {}
    with progress.counted("test the model", len(data)) as advance:
        for indices, tensors in _batches(preprocessor, data):
            inputs = {name: tf.constant(values) for name, values in tensors.items()}
            rows.update(zip(indices, model(**inputs)["logits"].numpy(), strict=True))
            advance(len(indices))
    return np.stack([rows[index] for index in range(len(data))])


def _batches(preprocessor: Preprocessor, data: Labelled) -> Iterator[Batch]:
    if isinstance(preprocessor, TextPreprocessor):
        yield from _by_length(preprocessor, data)
        return
    for start in range(0, len(data), _BATCH):
        indices = list(range(start, min(start + _BATCH, len(data))))
        yield indices, preprocessor([data.raw(index) for index in indices])


def _by_length(preprocessor: TextPreprocessor, data: Labelled) -> Iterator[Batch]:
    """Texts of one length bucket together: little is computed for padding."""
    texts = [str(data.raw(index)) for index in range(len(data))]
    encoded = batches.encode(preprocessor, texts, data.labels.tolist())
    for indices in batches.by_length(encoded, preprocessor, _BATCH):
        yield indices, preprocessor.pad([encoded.ids[index] for index in indices])
