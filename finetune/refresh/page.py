"""A run's report as a page for a person."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element

from finetune.recipe import Recipe
from finetune.refresh.checks import Findings
from finetune.refresh.comparison import Comparison
from finetune.refresh.folder import Report
from finetune.refresh.likelihood import Likelihood
from finetune.report import tables
from finetune.report.element import Child, clean, element
from finetune.report.page import html, section


def render(report: Report, recipe: Recipe) -> str:
    """The report as an HTML document that needs no other file."""
    return html(
        f"{report.model}: refresh {report.run}",
        section("Verdict", *_verdict(report)),
        *_compared("Test split", report.holdout),
        *_compared("New examples that neither model has learnt", report.new),
        *_thought("Test split", report.likelihood),
        *_thought("New texts that neither model has learnt", report.new_likelihood),
        *_data(report),
        section("Recipe", element("pre", clean(recipe.to_yaml()))),
    )


def _verdict(report: Report) -> list[Child]:
    match report.verdict:
        case "published":
            trial = ", on trial" if report.on_trial else ""
            said = f"Version {report.version} is published{trial}."
        case "refused":
            said = "The new data are refused; nothing was trained."
        case _:
            said = f"Version {report.champion} stays: the new model is not good enough."
    facts = [
        ("begun", report.begun),
        ("ended", report.ended),
        ("champion", "none" if report.champion is None else f"version {report.champion}"),
        ("edge bundles", ", ".join(report.edge) or "none"),
    ]
    return [element("p", element("strong", said)), _list(report.reasons), tables.facts(facts)]


def _compared(title: str, found: Comparison | None) -> list[Child]:
    if found is None:
        return []
    facts = [
        ("examples", f"{found.examples:,}"),
        ("accuracy of the champion", f"{found.champion:.4f}"),
        ("accuracy of the challenger", f"{found.challenger:.4f}"),
        ("answers lost, answers gained", f"{found.lost:,}, {found.gained:,}"),
        ("p that it is worse by chance (McNemar, exact)", f"{found.p_worse:.4f}"),
    ]
    rows = [
        (
            change.label,
            f"{change.support:,}",
            f"{change.champion:.4f}",
            f"{change.challenger:.4f}",
        )
        for change in found.labels
    ]
    heads = ("label", "examples", "champion's recall", "challenger's recall")
    return [section(title, tables.facts(facts), tables.table(heads, rows, "numbers"))]


def _thought(title: str, found: Likelihood | None) -> list[Child]:
    if found is None:
        return []
    facts = [
        ("sequences, tokens", f"{found.sequences:,}, {found.tokens:,}"),
        ("perplexity of the champion", f"{found.champion:.4g}"),
        ("perplexity of the challenger", f"{found.challenger:.4g}"),
        ("sequences that the challenger finds harder", f"{found.harder:,}"),
        ("p that it is worse by chance (paired randomization)", f"{found.p_worse:.4f}"),
    ]
    return [section(title, tables.facts(facts))]


def _data(report: Report) -> list[Child]:
    found = report.findings
    if found is None:
        return []
    files = tables.table(
        ("file", "kind", "SHA-256"), [(file.path, file.kind, file.sha256) for file in report.files]
    )
    labels = tables.table(
        ("label", "new examples"),
        [(label, f"{count:,}") for label, count in found.labels.items()],
        "numbers",
    )
    return [section("New data", tables.facts(_counts(found)), labels, files)]


def _counts(found: Findings) -> Iterable[tuple[str, str]]:
    return (
        ("examples read", f"{found.examples:,}"),
        ("new, to learn", f"{found.learn:,}"),
        ("new, to compare on", f"{found.test:,}"),
        ("copies of known ones", f"{found.copies:,}"),
        ("known with another label", f"{found.conflicts:,}"),
        ("also in dev or test", f"{found.leaked:,}"),
        ("requests without a label", f"{found.unlabelled:,}"),
        ("shift of the labels", f"{found.label_shift:.4f} (by chance {found.chance_shift:.4f})"),
    )


def _list(lines: Iterable[str]) -> Element:
    return element("ul", *(element("li", clean(line)) for line in lines))
