"""A line over steps or epochs, as SVG.

0.7 ┤╲
    │ ╲╱╲___      thin: each step    thick: smoothed
0.1 ┤       ╲╱╲__
    └────────────
    1         400
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from finetune.report.element import element

WIDTH, HEIGHT = 420, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 40
_MOST_POINTS = 400  # of a line; a screen shows no more
_MARKED = 30  # points up to which each has a mark
_TICKS = 5  # about
_LEAST = 1e-30  # of the range; less would be 0 in the divisions that follow

Values = NDArray[np.float64]


def draw(title: str, values: Sequence[float], unit: str, *, smooth: bool = False) -> Element:
    """Values [N] at 1 to N.

    Args:
        title: what they are.
        unit: of the horizontal axis, such as `step`.
        smooth: also draw their moving mean.
    """
    line = np.asarray(values, np.float64)
    low, high = _range(line)
    frame = _Frame(low, high, len(line))
    parts = [*frame.axes(unit), frame.line(line, "thin" if smooth else "line")]
    if smooth:
        parts.append(frame.line(_smoothed(line), "line"))
    elif len(line) <= _MARKED:
        parts += [frame.mark(place, value) for place, value in enumerate(line)]
    picture = element(
        "svg",
        element("title", title),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title} over {unit}s",
    )
    return element("figure", element("figcaption", title), picture)


class _Frame:
    """Where values stand in the picture."""

    def __init__(self, low: float, high: float, count: int) -> None:
        self._low = low
        self._high = high
        self._count = count

    def x(self, place: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * place / max(self._count - 1, 1)

    def y(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    def line(self, values: Values, class_: str) -> Element:
        points = " ".join(
            f"{self.x(place):.1f},{self.y(value):.1f}" for place, value in _thinned(values)
        )
        return element("polyline", points=points, class_=class_)

    def mark(self, place: int, value: float) -> Element:
        title = element("title", f"{place + 1}: {value:.4g}")
        return element("circle", title, cx=self.x(place), cy=self.y(value), r=3, class_="mark")

    def axes(self, unit: str) -> list[Element]:
        parts = []
        for value in _ticks(self._low, self._high):
            y = self.y(value)
            parts += [
                element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y, class_="grid"),
                element("text", f"{value:.4g}", x=_LEFT - 6, y=y + 4, text_anchor="end"),
            ]
        bottom = HEIGHT - _BOTTOM + 18
        ends = [(0, "start")] if self._count == 1 else [(0, "start"), (self._count - 1, "end")]
        for place, anchor in ends:
            number = f"{place + 1:,}"
            parts.append(element("text", number, x=self.x(place), y=bottom, text_anchor=anchor))
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(element("text", unit, x=middle, y=bottom, text_anchor="middle"))
        return parts


def _range(values: Values) -> tuple[float, float]:
    """The least and largest value, and some room when they are one."""
    low, high = float(values.min()), float(values.max())
    largest = max(abs(low), abs(high))
    if high - low > max(1e-9 * largest, _LEAST):
        return low, high
    room = max(largest / 10, _LEAST)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [count * step for count in range(first, last + 1)]


def _thinned(values: Values) -> list[tuple[float, float]]:
    """Places and values; of a long line, the means of equal stretches, and its two ends."""
    if len(values) <= _MOST_POINTS:
        return list(enumerate(values.tolist()))
    stretches = np.array_split(np.arange(len(values)), _MOST_POINTS)
    means = [(float(places.mean()), float(values[places].mean())) for places in stretches]
    last = len(values) - 1
    return [(0, float(values[0])), *means, (last, float(values[last]))]


def _smoothed(values: Values) -> Values:
    """An exponential moving mean over about a twentieth of the values, without a bias to 0.

    Source:
        Kingma and Ba: Adam, section 3, the correction of the initial bias (arXiv 1412.6980).
    """
    keep = 1 - 1 / max(len(values) / 20, 1)
    mean, weight, smoothed = 0.0, 0.0, []
    for value in values.tolist():
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        smoothed.append(mean / weight)
    return np.asarray(smoothed)
