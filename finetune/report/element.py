"""HTML and SVG as a tree: what is written from it is well-formed, and every text is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, tostring

Child = Element | str

# Control characters and halves of surrogate pairs: HTML has no way to write them.
_UNWRITABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def element(tag: str, /, *children: Child, **attributes: object) -> Element:
    """An element.

    Args:
        tag: its name.
        children: elements and texts, in order.
        attributes: by name; `_` stands for `-`, and `class_` for `class`. Numbers are rounded to
            hundredths, more than a screen shows.
    """
    made = Element(tag)
    for name, value in attributes.items():
        made.set(name.rstrip("_").replace("_", "-"), _attribute(value))
    extend(made, children)
    return made


def extend(parent: Element, children: Iterable[Child]) -> None:
    """Adds elements and texts at the end of an element."""
    for child in children:
        if isinstance(child, Element):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)


def document(root: Element) -> str:
    """The tree as an HTML document."""
    return f"<!DOCTYPE html>\n{tostring(root, encoding='unicode', method='html')}\n"


def clean(text: str) -> str:
    """The text with a replacement character for each character that HTML can't hold."""
    return _UNWRITABLE.sub("\ufffd", text)


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return clean(str(value))
