"""An inspection as a picture: of each split, the balance of its labels beside its sizes.

train.jsonl: 8,000 examples
negative ████████ 4,012     │    ▂▅█▇▃▁
positive ███████▉ 3,988     │ 3 ─────────── 61 characters
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from finetune.data.inspect import Histogram, Report, Split
from finetune.errors import DataError

_WIDTH, _MARGIN, _LINE = 1200, 24, 22  # pixels
_MIDDLE = _WIDTH // 2
_PANEL = 260  # pixels of a histogram
_NAME = 250  # pixels for a label's name
_MOST_LABELS = 40  # in the picture; the report has them all
_INK, _FAINT, _BAR = "#1f2933", "#9aa5b1", "#2f6f9f"


def save(report: Report, path: Path) -> None:
    """Draws a report into a picture file.

    Raises:
        DataError: the suffix is of no picture, or the file can't be written.
    """
    heights = [_height(split) for split in report.splits]
    image = Image.new("RGB", (_WIDTH, sum(heights) + _MARGIN), "white")
    draw = ImageDraw.Draw(image)
    draw.font = ImageFont.load_default(14)
    top = _MARGIN
    for split, height in zip(report.splits, heights, strict=True):
        title = f"{split.path}: {split.examples:,} examples, {split.copies.examples:,} copies"
        draw.text((_MARGIN, top), title, _INK)
        _draw_labels(draw, split, top + 2 * _LINE)
        _draw_sizes(draw, split.sizes, top + 2 * _LINE)
        top += height
    try:
        image.save(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {error}; name a file such as data.png") from error


def _height(split: Split) -> int:
    rows = min(len(split.labels), _MOST_LABELS + 1)
    return max(rows * _LINE, _PANEL + 2 * _LINE) + 3 * _LINE


def _draw_labels(draw: ImageDraw.ImageDraw, split: Split, top: int) -> None:
    ranked = sorted(split.labels.items(), key=lambda item: (-item[1], item[0]))
    most = max(split.labels.values())
    left, room = _MARGIN + _NAME, _MIDDLE - 2 * _MARGIN - _NAME - 80
    for label, count in ranked[:_MOST_LABELS]:
        width = round(room * count / most)
        draw.text((_MARGIN, top), _fitting(draw, label), _INK)
        draw.rectangle((left, top + 3, left + width, top + _LINE - 5), _BAR)
        draw.text((left + width + 8, top), f"{count:,}", _FAINT)
        top += _LINE
    if len(ranked) > _MOST_LABELS:
        draw.text((_MARGIN, top), f"and {len(ranked) - _MOST_LABELS} rarer labels", _FAINT)


def _fitting(draw: ImageDraw.ImageDraw, label: str) -> str:
    kept = label = " ".join(label[:80].split())
    while draw.textlength(label) > _NAME - 8:
        kept = kept[:-1]
        label = f"{kept}…"
    return label


def _draw_sizes(draw: ImageDraw.ImageDraw, sizes: Histogram, top: int) -> None:
    left, right, bottom = _MIDDLE + _MARGIN, _WIDTH - _MARGIN, top + _PANEL
    step = (right - left) / len(sizes.counts)
    most = max(sizes.counts)
    for place, count in enumerate(sizes.counts):
        start = left + place * step
        draw.rectangle(
            (start, bottom - round(_PANEL * count / most), start + max(step - 2, 1), bottom), _BAR
        )
    draw.text((left, top - _LINE), f"{most:,} examples", _FAINT)
    draw.line((left, bottom, right, bottom), _FAINT)
    draw.text((left, bottom + 4), f"{sizes.smallest:,}", _INK)
    draw.text((right, bottom + 4), f"{sizes.largest:,}", _INK, anchor="ra")
    summary = f"{sizes.unit}: median {sizes.median:,}, 95th percentile {sizes.percentile_95:,}"
    draw.text(((left + right) / 2, bottom + _LINE), summary, _INK, anchor="ma")
