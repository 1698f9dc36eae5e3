"""Laws of golden examples: whoever answers otherwise than published is told so, and by how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bundle import golden
from bundle.errors import GoldenError, ManifestError
from bundle.golden import Golden

PUBLISHED = Golden(texts=("good", "bad"), logits=((1.0, -1.0), (-2.0, 2.0)), tolerance=0.01)
Answer = Callable[[str], NDArray[np.float32]]


def answering(off_by: Any) -> Answer:
    """A model that answers as published but for `off_by`."""
    rows = dict(zip(PUBLISHED.texts, PUBLISHED.logits, strict=True))
    return lambda text: np.asarray(rows[text], np.float32) + np.float32(off_by)


def test_reads_back_as_written() -> None:
    assert golden.decode(golden.encode(PUBLISHED), "here") == PUBLISHED


def test_made_from_answers_it_passes_for_the_same_answers() -> None:
    logits = np.asarray([[0.1234567, -3.3], [1e4, 1e-9]], np.float32)
    made = golden.decode(golden.encode(golden.make(["a", "b"], logits, 1e-3)), "here")
    assert golden.check(made, lambda text: logits["ab".index(text)], "model") <= 5e-7


def test_within_the_tolerance_gives_the_largest_difference() -> None:
    assert golden.check(PUBLISHED, answering(0), "model") == 0
    assert golden.check(PUBLISHED, answering([0.0, -0.008]), "model") == pytest.approx(0.008, 1e-3)


@pytest.mark.parametrize("off_by", [0.011, -0.011, [0.0, 5.0], np.nan, [0.0, np.nan], np.inf])
def test_beyond_the_tolerance_is_refused(off_by: Any) -> None:
    with pytest.raises(GoldenError, match=r"^model: answers .* golden input 'good', .*0\.01"):
        golden.check(PUBLISHED, answering(off_by), "model")


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 2)])
def test_an_answer_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GoldenError, match="difference inf"):
        golden.check(PUBLISHED, lambda _: np.ones(shape, np.float32), "model")


def test_every_example_is_asked() -> None:
    right = answering(0)
    with pytest.raises(GoldenError, match="golden input 'bad'"):
        golden.check(PUBLISHED, lambda text: right(text) + (text == "bad"), "model")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"texts": [], "logits": [], "tolerance": 1}', "of one length, at least 1"),
        (b'{"texts": ["a"], "logits": [], "tolerance": 1}', "of one length"),
        (b'{"texts": ["a"], "logits": [[1]], "tolerance": 0}', "tolerance must be above 0"),
        (b'{"texts": ["a"], "logits": [[null]], "tolerance": 1}', r"Expected `float`, got `null`"),
        (b'{"texts": ["a"], "logits": [[1]]}', "missing required field `tolerance`"),
        (b'{"texts": ["a"], "logits": [[1]], "tolerance": 1, "x": 1}', "unknown field `x`"),
    ],
)
def test_a_broken_file_is_named_with_its_field(data: bytes, expected: str) -> None:
    with pytest.raises(ManifestError, match=f"^here: .*{expected}.*Publish the bundle again"):
        golden.decode(data, "here")


@given(st.binary(max_size=100))
def test_any_other_bytes_are_a_manifest_error(data: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^here: "):
        golden.decode(data, "here")
