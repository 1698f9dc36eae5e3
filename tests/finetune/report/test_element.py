"""Laws of the elements: whatever the texts are, a parser reads back the same tree and texts."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.report.element import clean, document, element


class Reader(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= attrs

    def handle_data(self, data: str) -> None:
        self.text += data


anything = st.text(st.characters(exclude_categories=()), max_size=30)


@given(anything, anything)
def test_any_text_is_read_back_and_makes_no_element(content: str, attribute: str) -> None:
    root = element("p", content, element("b", content), content, title=attribute)
    read = Reader(document(root))
    assert read.tags == ["p", "b"]
    assert read.text.strip() == (clean(content) * 3).strip()
    assert read.attributes == {"title": clean(attribute)}


@given(anything)
def test_what_is_clean_can_be_written_and_stays_so(content: str) -> None:
    assert clean(clean(content)) == clean(content)
    assert len(clean(content)) == len(content)
    clean(content).encode()


def test_ordinary_text_stays_as_it_is() -> None:
    text = "a\tb\nc \u00e4 \u4e2d \U0001f600 <&>\"'"
    assert clean(text) == text
    assert clean("\x00\x1b[31m\ud800") == "\ufffd\ufffd[31m\ufffd"


@pytest.mark.parametrize(
    ("value", "written"), [(1.23456, "1.23"), (3, "3"), (2.0, "2"), (1234567.0, "1234567")]
)
def test_numbers_are_as_short_as_a_screen_needs(value: float, written: str) -> None:
    assert Reader(document(element("rect", stroke_width=value))).attributes == {
        "stroke-width": written
    }
