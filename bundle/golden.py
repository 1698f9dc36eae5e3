"""Golden examples: raw inputs with the answers a model gave when it was published.

Whoever loads a model runs them first: a runtime that lacks a kernel, or has another meaning for
it, answers wrongly without any error, and only this shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bundle.errors import GoldenError, ManifestError
from bundle.manifest import Record
from bundle.preprocess.raw import Raw

FILE_NAME = "golden.json"


class Golden(Record, frozen=True, kw_only=True):
    """N texts or N pictures, and the logits [N, C] that the model gave for each of them alone."""

    texts: tuple[str, ...] = ()
    images: tuple[bytes, ...] = ()  # encoded pictures
    logits: tuple[tuple[float, ...], ...]
    tolerance: float  # the largest absolute difference of a logit that is no fault

    @property
    def inputs(self) -> Sequence[Raw]:
        """The texts, or the pictures."""
        return self.texts or self.images

    def __post_init__(self) -> None:
        if self.texts and self.images:
            raise ValueError("must have texts or images, not both")
        if not self.inputs or len(self.inputs) != len(self.logits):
            raise ValueError("texts (or images) and logits must be of one length, at least 1")
        if not self.tolerance > 0:
            raise ValueError("tolerance must be above 0")


def make(inputs: Sequence[Raw], logits: NDArray[np.float32], tolerance: float) -> Golden:
    """Golden examples from the answers `logits` [N, C] to N texts, or to N pictures."""
    return Golden(
        texts=tuple(each for each in inputs if isinstance(each, str)),
        images=tuple(each for each in inputs if isinstance(each, bytes)),
        logits=tuple(tuple(round(float(value), 6) for value in row) for row in logits),
        tolerance=tolerance,
    )


def encode(golden: Golden) -> bytes:
    """The examples as JSON."""
    return msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n"


def decode(data: bytes, origin: str) -> Golden:
    """Reads golden examples.

    Raises:
        ManifestError: they are not valid; names the origin and the field.
    """
    try:
        return msgspec.json.decode(data, type=Golden)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{origin}: {error}. Publish the bundle again.") from error


def check(golden: Golden, answer: Callable[[Any], NDArray[np.float32]], origin: str) -> float:
    """Runs every example and compares.

    Args:
        answer: text, or encoded picture → logits [C].
        origin: which model, for the message.

    Returns:
        The largest absolute difference seen.

    Raises:
        GoldenError: names the input, the difference and the tolerance.
    """
    worst = 0.0
    for place, (raw, logits) in enumerate(zip(golden.inputs, golden.logits, strict=True)):
        found = answer(raw)
        expected = np.asarray(logits, np.float32)
        same_shape = found.shape == expected.shape
        difference = float(np.abs(found - expected).max()) if same_shape else float("inf")
        if not difference <= golden.tolerance:  # also true for NaN
            raise GoldenError(
                f"{origin}: answers {_shown(found)} to the golden input "
                f"{repr(raw) if isinstance(raw, str) else place}, "
                f"published with {_shown(expected)}: difference {difference:.4g}, "
                f"tolerance {golden.tolerance:g}. Use a runtime that gives the published answer."
            )
        worst = max(worst, difference)
    return worst


def _shown(logits: NDArray[np.float32]) -> str:
    return np.array2string(logits, precision=4, threshold=16, separator=", ")
