"""Golden examples: raw inputs with the answers a model gave when it was published.

Whoever loads a model runs them first: a runtime that lacks a kernel, or has another meaning for
it, answers wrongly without any error, and only this shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bundle.errors import GoldenError, ManifestError
from bundle.manifest import Record

FILE_NAME = "golden.json"


class Golden(Record, frozen=True, kw_only=True):
    """Texts, and the logits [len(texts), C] that the model gave for each of them alone."""

    texts: tuple[str, ...]
    logits: tuple[tuple[float, ...], ...]
    tolerance: float  # the largest absolute difference of a logit that is no fault

    def __post_init__(self) -> None:
        if not self.texts or len(self.texts) != len(self.logits):
            raise ValueError("texts and logits must be of one length, at least 1")
        if not self.tolerance > 0:
            raise ValueError("tolerance must be above 0")


def make(texts: Sequence[str], logits: NDArray[np.float32], tolerance: float) -> Golden:
    """Golden examples from the answers `logits` [len(texts), C] to `texts`."""
    rows = tuple(tuple(round(float(value), 6) for value in row) for row in logits)
    return Golden(texts=tuple(texts), logits=rows, tolerance=tolerance)


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


def check(golden: Golden, answer: Callable[[str], NDArray[np.float32]], origin: str) -> float:
    """Runs every example and compares.

    Args:
        answer: text → logits [C].
        origin: which model, for the message.

    Returns:
        The largest absolute difference seen.

    Raises:
        GoldenError: names the text, the difference and the tolerance.
    """
    worst = 0.0
    for text, logits in zip(golden.texts, golden.logits, strict=True):
        found = answer(text)
        expected = np.asarray(logits, np.float32)
        same_shape = found.shape == expected.shape
        difference = float(np.abs(found - expected).max()) if same_shape else float("inf")
        if not difference <= golden.tolerance:  # also true for NaN
            raise GoldenError(
                f"{origin}: answers {np.round(found, 4).tolist()} to the golden input {text!r}, "
                f"published with {np.round(expected, 4).tolist()}: difference {difference:.4g}, "
                f"tolerance {golden.tolerance:g}. Use a runtime that gives the published answer."
            )
        worst = max(worst, difference)
    return worst
