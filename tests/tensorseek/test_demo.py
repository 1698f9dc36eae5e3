"""Laws of the page, in a real browser: both sides answer, and no request leaves the machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]

_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, up: Any) -> Iterator[Any]:
    """The page, open; what it asked for and complained about is checked at the end."""
    from playwright.sync_api import expect

    page = browser.new_page()
    foreign: list[str] = []
    complaints: list[str] = []

    def route(request: Any) -> None:
        if urlsplit(request.request.url).hostname == "127.0.0.1":
            request.continue_()
        else:
            foreign.append(request.request.url)
            request.abort()

    page.route(re.compile("^(http|ws)"), route)
    page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://127.0.0.1:{up.ports.demo}/")
    expect(page.get_by_label("Model")).to_have_value("tiny", timeout=30_000)  # it has loaded
    yield page
    page.close()
    assert foreign == []
    assert complaints == []


def classify(page: Any, text: str) -> None:
    page.get_by_label("Text").fill(text)
    page.get_by_role("button", name="Classify").click()


def test_cloud_and_edge_agree_and_say_who_answered(
    page: Any, up: Any, tiny_answer: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    text = "a very good film"
    classify(page, text)
    expect(page.locator("#cloud-note")).to_contain_text(
        re.compile(r"version 1 · gateway · [\d.]+ ms"), timeout=30_000
    )
    expect(page.locator("#edge-note")).to_contain_text(
        re.compile(r"version 1 · float32 · [\d.]+ ms")
    )
    best = ("negative", "positive")[tiny_answer(text).argmax()]
    headings = page.get_by_test_id("label-output-value")
    expect(headings).to_have_text([best, best])


def test_bad_input_is_a_message_not_a_traceback(page: Any, up: Any) -> None:
    from playwright.sync_api import expect

    classify(page, "   ")
    for side in ("cloud", "edge"):
        expect(page.locator(f"#{side}-note")).to_contain_text("text: is empty", timeout=30_000)
    classify(page, "very " * 400)
    for side in ("cloud", "edge"):
        expect(page.locator(f"#{side}-note")).to_contain_text(
            "has 2000 characters, the limit is 1000"
        )
    expect(page.locator("body")).not_to_contain_text("Traceback")


def test_an_example_fills_the_text(page: Any, up: Any) -> None:
    from playwright.sync_api import expect

    example = "a warm, funny and beautifully acted film"
    page.get_by_role("button", name=example).click()
    expect(page.get_by_label("Text")).to_have_value(example)
