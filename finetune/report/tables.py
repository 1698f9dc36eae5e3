"""Tables of a report: figures, labels, worst examples, facts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

from finetune.metrics.classification import ClassScore
from finetune.metrics.interval import Estimate
from finetune.metrics.worst import HardSequence, Shown, WrongAnswer
from finetune.report.element import Child, element

_MOST_CHARACTERS = 600  # of an example's text


def table(heads: Sequence[str], rows: Iterable[Sequence[Child]], class_: str = "") -> Element:
    """A table that scrolls by itself where the screen is narrow."""
    head = element("thead", element("tr", *(element("th", title, scope="col") for title in heads)))
    body = element(
        "tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows)
    )
    return element("div", element("table", head, body, class_=class_), class_="scroll")


def figures(found: dict[str, Estimate], unit: str) -> Element:
    """Each figure with its interval; `unit` is what its n counts."""
    rows = [
        (name, f"{one.value:.4f}", f"{one.low:.4f} to {one.high:.4f}", f"{one.n:,}")
        for name, one in found.items()
    ]
    return table(("figure", "value", "95% interval", unit), rows, "numbers")


def classes(scores: Sequence[ClassScore]) -> Element:
    """Each label's precision, recall and F1."""
    rows = [
        (
            score.label,
            *(_share(value) for value in (score.precision, score.recall, score.f1)),
            f"{score.support:,}",
            f"{score.answers:,}",
        )
        for score in scores
    ]
    heads = ("label", "precision", "recall", "F1", "examples", "answers")
    return table(heads, rows, "numbers")


def wrong_answers(found: Sequence[WrongAnswer]) -> Element:
    """Examples with a wrong answer."""
    rows = [
        (
            f"{one.index:,}",
            _shown(one.shown),
            f"{one.label} ({one.label_probability:.3f})",
            f"{one.answer} ({one.answer_probability:.3f})",
        )
        for one in found
    ]
    return table(("example", "content", "label", "answer"), rows, "examples")


def hard_sequences(found: Sequence[HardSequence]) -> Element:
    """Sequences with a high perplexity."""
    rows = [
        (f"{one.index:,}", _shown(one.shown), f"{one.tokens:,}", f"{one.perplexity:,.1f}")
        for one in found
    ]
    return table(("example", "content", "tokens", "perplexity"), rows, "examples")


def facts(known: Iterable[tuple[str, str]]) -> Element:
    """Names with their values."""
    parts: list[Child] = []
    for name, value in known:
        parts += [element("dt", name), element("dd", value)]
    return element("dl", *parts)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _shown(one: Shown) -> Element:
    text = _text(one.content)
    if one.picture is None:
        return text
    encoded = base64.b64encode(one.picture).decode()
    # The browser finds the format by the content's first bytes.
    picture = element("img", src=f"data:image;base64,{encoded}", alt=one.content)
    return element("div", picture, text)


def _text(content: str) -> Element:
    cut = content if len(content) <= _MOST_CHARACTERS else f"{content[:_MOST_CHARACTERS]}…"
    return element("div", cut, class_="content", dir="auto")
