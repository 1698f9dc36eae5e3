"""Laws of a curve: every value has its place inside the picture, however many and odd they are."""

from __future__ import annotations

from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.report import curve


def points(figure: Element) -> list[list[tuple[float, float]]]:
    lines = []
    for line in figure.iter("polyline"):
        pairs = (pair.split(",") for pair in str(line.get("points")).split())
        lines.append([(float(x), float(y)) for x, y in pairs])
    return lines


@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=900), st.booleans())
def test_every_point_lies_in_the_picture(values: list[float], smooth: bool) -> None:
    figure = curve.draw("loss", values, "step", smooth=smooth)
    for line in points(figure):
        assert 1 <= len(line) <= 402
        assert all(0 <= x <= curve.WIDTH and 0 <= y <= curve.HEIGHT for x, y in line)
        assert line == sorted(line, key=lambda point: point[0])


def test_a_rising_line_rises() -> None:
    ((first, *_, last),) = points(curve.draw("score", [0.1, 0.5, 0.9], "epoch"))
    assert first[0] < last[0]
    assert first[1] > last[1]  # a picture's y grows downwards


def test_few_values_are_marked_with_what_they_are() -> None:
    figure = curve.draw("score", [0.5, 0.75], "epoch")
    assert ["".join(mark.itertext()) for mark in figure.iter("circle")] == ["1: 0.5", "2: 0.75"]
    assert not list(curve.draw("rate", [0.1] * 100, "step").iter("circle"))


@pytest.mark.parametrize("count", [1, 2, 400, 401, 5000])
def test_a_line_begins_and_ends_with_its_first_and_last_value(count: int) -> None:
    ends = points(curve.draw("loss", [1.0, *[0.5] * (count - 2), 0.0][:count], "step"))[0]
    whole = points(curve.draw("loss", [1.0, 0.0], "step"))[0]
    if count > 1:
        assert (ends[0], ends[-1]) == (whole[0], whole[-1])


def test_the_smoothed_line_has_no_bias_to_zero() -> None:
    thin, smoothed = points(curve.draw("loss", [5.0] * 300, "step", smooth=True))
    assert thin == smoothed
