"""The whole report of a run; `html` and `section` serve other reports too."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from bundle import atomic
from finetune.metrics.classification import ClassificationResult
from finetune.metrics.language import LanguageResult
from finetune.metrics.worst import HardSequence, WrongAnswer
from finetune.report import calibration, confusion, curve, tables
from finetune.report.element import Child, clean, document, element
from finetune.report.run_report import RunReport, Training

FILE_NAME = "report.html"

# The page asks nothing of any other machine, whatever a text in it says.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write(path: Path, report: RunReport) -> None:
    """Writes the report as one HTML file, all or nothing."""
    atomic.write_bytes(path, render(report).encode())


def render(report: RunReport) -> str:
    """The report as an HTML document with its pictures and style inside."""
    return html(
        report.title,
        *_result(report),
        *_training(report.training),
        *_worst(report),
        section("Recipe", element("pre", clean(report.recipe))),
        section("Versions", tables.facts(report.versions.items())),
    )


def html(title: str, *content: Child) -> str:
    """An HTML document that needs no other file."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", content=_POLICY, **{"http-equiv": "Content-Security-Policy"}),
        element("title", title),
        element("style", Path(__file__).with_name("style.css").read_text(encoding="utf-8")),
    )
    body = element("body", element("h1", title), *content)
    return document(element("html", head, body, lang="en"))


def section(title: str, *content: Child) -> Element:
    """A part of the document, with its heading."""
    return element("section", element("h2", title), *content)


def _result(report: RunReport) -> list[Element]:
    tested = element("p", f"Tested on {report.data}", class_="faint")
    match report.result:
        case LanguageResult() as result:
            found = {
                "perplexity": result.perplexity,
                "bits per token": result.bits_per_token,
            }
            note = element("p", f"{result.tokens:,} tokens were predicted.", class_="faint")
            return [section("Test", tested, tables.figures(found, "sequences"), note)]
        case ClassificationResult() as result:
            found = {
                "accuracy": result.accuracy,
                "macro-F1": result.macro_f1,
                "expected calibration error": result.ece,
            }
            return [
                section("Test", tested, tables.figures(found, "examples")),
                section("Calibration", calibration.draw(result.bins)),
                section("Confusion matrix", *confusion.draw(result)),
                section("Labels", *_absent(result), tables.classes(result.classes)),
            ]


def _absent(result: ClassificationResult) -> list[Element]:
    if not result.absent:
        return []
    names = ", ".join(result.absent)
    return [element("p", f"No example has the label {names}: macro-F1 leaves it out.")]


def _training(training: Training | None) -> list[Element]:
    if training is None:
        return []
    curves = [curve.draw("training loss", training.losses, "step", smooth=True)]
    if training.dev_scores:
        curves.append(curve.draw(f"dev {training.dev_measure}", training.dev_scores, "epoch"))
    if training.learning_rates:
        curves.append(curve.draw("learning rate", training.learning_rates, "step"))
    known = [
        ("steps", f"{len(training.losses):,}"),
        ("examples per second", f"{training.examples_per_s:,.1f}"),
        ("precision", training.precision),
        ("compilations", f"{training.compilations:,}"),
        ("skipped steps", f"{training.skipped_steps:,}"),
        ("epoch whose weights were kept", f"{training.best_epoch:,}"),
    ]
    return [section("Training", element("div", *curves, class_="curves"), tables.facts(known))]


def _worst(report: RunReport) -> list[Element]:
    wrong = [one for one in report.worst if isinstance(one, WrongAnswer)]
    hard = [one for one in report.worst if isinstance(one, HardSequence)]
    if wrong:
        shown = tables.wrong_answers(wrong)
    elif hard:
        shown = tables.hard_sequences(hard)
    else:
        shown = element("p", "Every answer was right.")
    return [section("Worst examples", shown)]
