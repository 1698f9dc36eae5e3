"""Bundles side by side as an SVG picture: time of an example, and size.

dynamic_int8  ████ 4.1 ms      ██ 23 MB
float32       █████████████    ████████
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from edge.bench.measure import Measured, Timing

_ROW, _BAR, _NAME, _GAP = 44, 16, 240, 110  # pixels
_ROOM = 300  # of the longest bar
_WIDTH = _NAME + 2 * (_ROOM + _GAP)
_STYLE = "text{font:14px system-ui,sans-serif;fill:#1f2933}.time{fill:#2f6f9f}.size{fill:#9aa5b1}"


def draw(found: Sequence[Measured]) -> str:
    """The picture of at least one bundle.

    The time is that of the largest input with the first number of threads.
    """
    times = [largest(each).p50_ms for each in found]
    sizes = [each.file_bytes / 1e6 for each in found]
    rows = []
    for place, (each, took, size) in enumerate(zip(found, times, sizes, strict=True)):
        top = (place + 1) * _ROW
        name = f"{each.model} {each.version} {each.profile}"
        rows.append(_text(8, top, name))
        rows.append(_bar("time", _NAME, top, took / max(times), f"{took:.2f} ms"))
        left = _NAME + _ROOM + _GAP
        rows.append(_bar("size", left, top, size / max(sizes), f"{size:.1f} MB"))
    timing = largest(found[0])
    heading = f"p50 of {timing.signature}, threads: {timing.threads}"
    head = _text(_NAME, 16, heading) + _text(_NAME + _ROOM + _GAP, 16, "size of the bundle")
    height = (len(found) + 1) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
        f"<title>Edge bundles compared</title><style>{_STYLE}</style>{head}{''.join(rows)}</svg>\n"
    )


def largest(found: Measured) -> Timing:
    """The timing of the slowest signature with the first number of threads."""
    first = found.timings[0].threads
    return max((each for each in found.timings if each.threads == first), key=lambda t: t.p50_ms)


def _bar(kind: str, left: int, top: int, share: float, label: str) -> str:
    width = max(1, round(_ROOM * share))
    return (
        f'<rect class="{kind}" x="{left}" y="{top - _BAR + 3}" width="{width}" height="{_BAR}"/>'
        + _text(left + width + 8, top, label)
    )


def _text(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'
