"""Laws of the page, in a real browser: both sides answer, and no request leaves the machine."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from tensorseek.demo.answers import Cloud

CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]

_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


_CONTENT = io.BytesIO()
Image.new("RGB", (16, 12), (230, 230, 230)).save(_CONTENT, "PNG")
BRIGHT = _CONTENT.getvalue()


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
    with opened(browser, up) as page:
        yield page


@contextmanager
def opened(browser: Any, up: Any, **settings: Any) -> Iterator[Any]:
    from playwright.sync_api import expect

    page = browser.new_page(**settings)
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
    expect(page.get_by_label("Model", exact=True)).to_have_value("flips", timeout=30_000)
    yield page
    page.close()
    assert foreign == []
    assert complaints == []


def go_to(page: Any, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def choose(page: Any, label: str, name: str) -> None:
    from playwright.sync_api import expect

    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=name, exact=True).click()
    expect(page.get_by_label(label, exact=True)).to_have_value(name)


def classify(page: Any, text: str) -> None:
    choose(page, "Model", "tiny")
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()


def test_cloud_and_edge_agree_and_say_who_answered(
    page: Any, up: Any, tiny_answer: Callable[..., Any]
) -> None:
    from playwright.sync_api import expect

    text = "a very good film"
    classify(page, text)
    expect(page.locator("#text-cloud-note")).to_contain_text(
        re.compile(r"version 1 · gateway · [\d.]+ ms"), timeout=30_000
    )
    expect(page.locator("#text-edge-note")).to_contain_text(
        re.compile(r"version 1 · float32 · [\d.]+ ms")
    )
    best = ("negative", "positive")[tiny_answer(text).argmax()]
    headings = page.get_by_test_id("label-output-value")
    expect(headings).to_have_text([best, best])
    expect(page.locator("#text-agreement")).to_contain_text("Cloud and edge agree")


def test_bad_input_is_a_message_not_a_traceback(page: Any, up: Any) -> None:
    from playwright.sync_api import expect

    classify(page, "   ")
    for side in ("cloud", "edge"):
        expect(page.locator(f"#text-{side}-note")).to_contain_text("text: is empty", timeout=30_000)
    classify(page, "very " * 400)
    for side in ("cloud", "edge"):
        expect(page.locator(f"#text-{side}-note")).to_contain_text(
            "has 2000 characters, the limit is 1000"
        )
    expect(page.locator("body")).not_to_contain_text("Traceback")


def test_an_example_fills_the_text(page: Any, up: Any) -> None:
    from playwright.sync_api import expect

    example = "a warm, funny and beautifully acted film"
    page.get_by_role("button", name=example).click()
    expect(page.get_by_label("Text", exact=True)).to_have_value(example)


def test_a_whole_file_is_answered_row_by_row(page: Any, tiny_answer: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    texts = ["a very good film", "awful , dull plot !", "=good"]
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *enumerate(texts)])
    choose(page, "Model", "tiny")
    page.get_by_role("button", name="A whole file").click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "texts.csv")
    expect(page.get_by_text("texts.csv").first).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Classify the file").click()
    summary = page.locator("#batch-summary")
    expect(summary).to_contain_text("3 rows: 3 answered by the cloud, 3 of 3", timeout=30_000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the answers").click()
    with Path(download.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [*texts[:2], "'=good"]
    for row, text in zip(rows, texts, strict=True):
        best = ("negative", "positive")[tiny_answer(text).argmax()]
        assert (row["cloud"], row["edge"], row["agree"]) == (best, best, "True")


def test_many_inputs_are_answered_as_each_alone_would_be(up: Any) -> None:
    cloud = Cloud(f"127.0.0.1:{up.ports.gateway}")
    texts = [*["a very good film", " ", "awful plot"] * 20, *["x" * 2000] * 40]
    found = list(cloud.answers("tiny", texts))
    alone = {text: cloud.answer("tiny", text) for text in set(texts)}
    assert [each.scores for each in found] == [alone[text].scores for text in texts]
    assert [each.note for each in found if not each.scores] == [
        alone[text].note for text in texts if not alone[text].scores
    ]


def test_a_picture_is_classified(page: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    (tmp_path / "bright.png").write_bytes(BRIGHT)
    go_to(page, "Pictures")
    panel = page.get_by_role("tabpanel").filter(has=page.get_by_label("Picture model"))
    panel.locator("input[type=file]").first.set_input_files(tmp_path / "bright.png")
    note = page.locator("#image-cloud-note")
    expect(note).to_contain_text("version 1 · gateway", timeout=30_000)
    expect(panel.get_by_test_id("label-output-value").first).to_have_text("bright")
    expect(page.locator("#image-edge-note")).to_contain_text("shades version 1 has no edge bundle")


def test_a_text_streams_and_stops(page: Any, up: Any) -> None:
    from playwright.sync_api import expect

    go_to(page, "Writing")
    page.get_by_label("Prompt", exact=True).fill("the film")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("#usage")).to_contain_text(re.compile(r"tokens/s"), timeout=30_000)
    written = page.locator("#written textarea")
    assert len(written.input_value()) > 1
    page.get_by_label("Prompt", exact=True).fill("the plot")
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_disabled()  # a stop that comes before the server knows the text is lost
    backend = serving_pid("backend", up.ports.backend)
    os.kill(backend, signal.SIGSTOP)  # a model that thinks for long can be stopped too
    try:
        page.get_by_role("button", name="Write", exact=True).click()
        stop.click()
        expect(page.locator("#usage")).to_contain_text("stopped", timeout=30_000)
    finally:
        os.kill(backend, signal.SIGCONT)
    expect(stop).to_be_disabled()
    expect(page.get_by_role("button", name="Write", exact=True)).to_be_enabled()


def test_every_model_has_its_card(page: Any) -> None:
    from playwright.sync_api import expect

    go_to(page, "Models")
    choose(page, "Published model", "flips")
    card = page.locator("#model-card")
    expect(card).to_contain_text("flips version 2, served", timeout=30_000)
    expect(card).to_contain_text("flips version 1")
    choose(page, "Published model", "writer")
    expect(card).to_contain_text("perplexity", timeout=30_000)


def test_a_run_shows_its_curves(page: Any) -> None:
    from playwright.sync_api import expect

    go_to(page, "Training")
    curves = page.locator("#curves")
    expect(curves).to_contain_text(re.compile(r"writer/\w+: \d+ steps, ended"), timeout=30_000)
    expect(curves.locator("svg").first).to_be_visible()


def test_flipped_answers_are_shown(page: Any, tiny_answer: Any) -> None:
    from playwright.sync_api import expect

    texts = [f"{word} film" for word in ("good", "bad", "great", "dull", "awful", "fine")]
    flipped = [
        text
        for text in texts
        if tiny_answer(text, seed=0).argmax() != tiny_answer(text, seed=1).argmax()
    ]
    go_to(page, "What changed")
    page.get_by_label("Texts, a line each", exact=False).fill("\n".join(texts))
    page.get_by_role("button", name="Compare").click()
    summary = page.locator("#changes-summary")
    expect(summary).to_contain_text(
        f"{len(flipped)} of {len(texts)} answers changed", timeout=30_000
    )


@pytest.mark.parametrize("tab", ["Text", "Pictures", "Writing", "Models", "Training"])
def test_everybody_can_use_it(page: Any, tab: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    go_to(page, tab)
    page.wait_for_function("() => document.querySelector('.tab-container[aria-hidden]')?.inert")
    page.wait_for_function("() => document.title")  # was empty once, on a busy machine
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    assert serious == [], [(each["id"], each["nodes"][0]["html"]) for each in serious]


def test_it_fits_a_telephone_in_the_dark(browser: Any, up: Any) -> None:
    size = {"width": 390, "height": 844}
    with opened(browser, up, viewport=size, color_scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red, green, blue = map(int, re.findall(r"\d+", background)[:3])
        assert max(red, green, blue) < 64


def test_the_keyboard_is_enough(page: Any) -> None:
    from playwright.sync_api import expect

    choose(page, "Model", "tiny")
    page.get_by_label("Text", exact=True).focus()
    page.keyboard.type("a very good film")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#text-cloud-note")).to_contain_text("gateway", timeout=30_000)


def test_it_says_when_the_gateway_is_away_and_goes_on(page: Any, up: Any) -> None:
    from playwright.sync_api import expect

    classify(page, "a very good film")
    expect(page.locator("#text-cloud-note")).to_contain_text("gateway", timeout=30_000)
    gateway = serving_pid("gateway", up.ports.gateway)
    os.kill(gateway, signal.SIGSTOP)
    try:
        status = page.locator("#status")
        expect(status).to_contain_text("⚠️", timeout=60_000)
    finally:
        os.kill(gateway, signal.SIGKILL)  # `up` starts it again
    expect(status).not_to_contain_text("⚠️", timeout=60_000)
    classify(page, "awful , dull plot !")
    expect(page.locator("#text-cloud-note")).to_contain_text("gateway", timeout=30_000)


def serving_pid(part: str, port: int) -> int:
    """The process of the gateway or the backend that has a port."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if part.encode() in words and b"--port" in words and str(port).encode() in words:
            return int(folder.name)
    raise AssertionError(f"no {part} runs")
