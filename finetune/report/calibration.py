"""Confidence against accuracy, as SVG: of a calibrated model the bars end at the diagonal.

Source: Guo et al.: On Calibration of Modern Neural Networks, figure 1 (arXiv 1706.04599).
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from finetune.metrics.classification import Bin
from finetune.report.element import element

_LEFT, _TOP, _SIDE = 46, 10, 280  # of the square, pixels
_BELOW, _COUNTS = 34, 50  # pixels between the square and the counts, and of the counts
WIDTH, HEIGHT = _LEFT + _SIDE + 14, _TOP + _SIDE + _BELOW + _COUNTS + 20


def draw(bins: Sequence[Bin]) -> Element:
    """The bins as bars, and below how many examples each has."""
    most = max(one.n for one in bins)
    parts = [*_axes()]
    for one in bins:
        if one.n and one.confidence is not None and one.accuracy is not None:
            parts += _bar(one, one.confidence, one.accuracy, most)
    corner = (_LEFT, _TOP + _SIDE, _LEFT + _SIDE, _TOP)
    parts.append(_line(*corner, "diagonal"))
    picture = element(
        "svg",
        element("title", "Reliability diagram"),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label="Accuracy of the answers in each bin of confidence",
        class_="square",
    )
    caption = "Blue: accuracy. Red: how far confidence is from it. Grey: examples."
    return element("figure", picture, element("figcaption", caption))


def _bar(one: Bin, confidence: float, accuracy: float, most: int) -> list[Element]:
    x, width = _LEFT + _SIDE * one.low + 1, _SIDE * (one.high - one.low) - 2
    below, above = sorted((accuracy, confidence))
    floor, height = _TOP + _SIDE + _BELOW + _COUNTS, _COUNTS * one.n / most
    title = (
        f"confidence {one.low:.2f} to {one.high:.2f}: {one.n:,} examples, "
        f"mean confidence {confidence:.3f}, accuracy {accuracy:.3f}"
    )
    return [
        element(
            "g",
            element("title", title),
            _rect(x, _y(accuracy), width, _SIDE * accuracy, "hit"),
            _rect(x, _y(above), width, _SIDE * (above - below), "gap"),
            _rect(x, floor - height, width, height, "amount"),
        )
    ]


def _axes() -> list[Element]:
    parts = [_rect(_LEFT, _TOP, _SIDE, _SIDE, "board")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = _LEFT + _SIDE * share, _y(share)
        parts += [
            _line(_LEFT, y, _LEFT + _SIDE, y, "grid"),
            element("text", f"{share:g}", x=_LEFT - 6, y=y + 4, text_anchor="end"),
            element("text", f"{share:g}", x=x, y=_TOP + _SIDE + 16, text_anchor="middle"),
        ]
    middle = _LEFT + _SIDE / 2
    parts.append(element("text", "confidence", x=middle, y=HEIGHT - 4, text_anchor="middle"))
    y = _TOP + _SIDE / 2
    turned = f"rotate(-90 12 {y:.0f})"
    parts.append(element("text", "accuracy", x=12, y=y, text_anchor="middle", transform=turned))
    return parts


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)


def _rect(x: float, y: float, width: float, height: float, class_: str) -> Element:
    return element("rect", x=x, y=y, width=width, height=height, class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Element:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)
