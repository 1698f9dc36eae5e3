"""Laws of the report: one file that says it all, on any screen, and asks nothing of anyone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune.metrics import classification, language, worst
from finetune.metrics.worst import Shown
from finetune.report import page
from finetune.report.run_report import RunReport, Training

CHROMIUM = shutil.which("chromium")
NASTY = "</pre><script>alert(1)</script>&<img src=http://example.com/x.png> \x00\ud800 'x' \"y\""
VOID = {"meta", "img"}


class Checked(HTMLParser):
    """Reads a document; fails where a tag is not closed in its place."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        for name, value in attrs:
            if name in ("src", "href"):
                assert (value or "").startswith("data:")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def show(index: int) -> Shown:
    return Shown(content=f"{index}{NASTY * 20}")


def classified(labels: int, *, training: bool = True) -> RunReport:
    generator = np.random.default_rng(0)
    true = generator.integers(0, labels, 600)
    logits = generator.normal(size=(600, labels)) + 2 * np.eye(labels)[true]
    names = [f"{NASTY}{index}" for index in range(labels)]
    return RunReport(
        title=f"tiny {NASTY}",
        recipe=f"name: tiny\nnote: {NASTY}\n",
        data="data/test.jsonl",
        result=classification.measure(logits, true, names),
        worst=worst.wrong_answers(logits, true, names, show),
        versions={"tensorflow": "2.21.0"},
        training=Training(
            losses=np.exp(-np.arange(900) / 300).tolist(),
            examples_per_s=81.25,
            precision="mixed_bfloat16",
            compilations=6,
            skipped_steps=3,
            best_epoch=2,
            dev_scores=[0.5, 0.75],
            learning_rates=np.linspace(1e-4, 0, 900).tolist(),
        )
        if training
        else None,
    )


def spoken() -> RunReport:
    nll, tokens = np.asarray([30.0, 8.0, 45.0]), np.asarray([10, 4, 15])
    return replace(
        classified(2),
        result=language.measure(nll, tokens),
        worst=worst.hard_sequences(nll, tokens, show),
    )


REPORTS = {
    "2 labels": classified(2),
    "77 labels": classified(77),
    "300 labels": classified(300, training=False),
    "language": spoken(),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_it_is_well_formed_without_script_or_any_address(report: RunReport) -> None:
    read = Checked(page.render(report))
    assert not {"script", "link", "iframe", "object", "form"} & set(read.tags)
    assert read.tags.count("h1") == 1


def test_it_tells_all_that_there_is() -> None:
    text = Checked(page.render(classified(2))).text
    for expected in (
        *("accuracy", "macro-F1", "expected calibration error", "Confusion matrix", "Recipe"),
        *("training loss", "dev accuracy", "learning rate", "Worst examples", "note: </pre>"),
        *("81.2", "mixed_bfloat16", "2.21.0", "data/test.jsonl", "95% interval"),
    ):
        assert expected in text, expected


def test_a_language_model_has_its_own_figures() -> None:
    text = Checked(page.render(spoken())).text
    assert "perplexity" in text
    assert "29 tokens were predicted." in text
    assert "Confusion matrix" not in text


def test_a_model_that_was_only_evaluated_has_no_training() -> None:
    text = Checked(page.render(classified(2, training=False))).text
    assert "training loss" not in text


def test_one_who_is_always_right_is_told_so() -> None:
    perfect = classification.measure(np.eye(3)[[0, 1]], np.asarray([0, 1]), ["a", "b", "c"])
    text = Checked(page.render(replace(classified(2), result=perfect, worst=()))).text
    assert "Every answer was right." in text
    assert "No example has the label c: macro-F1 leaves it out." in text


def test_it_is_written_whole(tmp_path: Path) -> None:
    report = classified(2)
    path = tmp_path / "new" / page.FILE_NAME
    page.write(path, report)
    assert path.read_text(encoding="utf-8") == page.render(report)
    assert [entry.name for entry in path.parent.iterdir()] == [page.FILE_NAME]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("name", REPORTS)
def test_a_phone_shows_it_whole_and_fetches_nothing(
    browser: Any, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "report.html"
    page.write(path, REPORTS[name])
    shown = browser.new_page(viewport={"width": 360, "height": 640}, color_scheme="dark")
    asked: list[str] = []
    complaints: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("console", lambda line: complaints.append(line.text))
    shown.goto(path.as_uri())
    assert asked == [path.as_uri()]
    assert complaints == []
    assert shown.evaluate("document.documentElement.scrollWidth") == 360
    # The browser's tree is ours: nothing was mended, nothing was taken for something else.
    count = shown.evaluate("document.querySelectorAll('*').length")
    assert count == len(Checked(path.read_text(encoding="utf-8")).tags)
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(20, 24, 29)"
    shown.close()
