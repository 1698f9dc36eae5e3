"""What changed between two versions: the examples whose answer flipped.

Both versions answer with their edge bundles, on this machine: a backend serves only one of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from bundle.errors import BundleError
from tensorseek.demo.answers import Answer
from tensorseek.demo.context import Context, Holdings, Watched, choice

_MOST = 5000  # examples
_SHOWN = 200  # flipped ones
_HEADS = ["text", "label", "before", "after"]


@dataclass(frozen=True)
class Example:
    """A text, and its label where that is known."""

    text: str
    label: str = ""


def build(context: Context) -> Watched:
    """The tab, and what of it follows the models."""
    with gr.Tab("What changed", id="changes", visible=False) as tab:
        with gr.Row():
            model = gr.Dropdown(label="Model to compare", interactive=True, elem_id="changes-model")
            before = gr.Dropdown(label="Before", interactive=True, elem_id="changes-before")
            after = gr.Dropdown(label="After", interactive=True, elem_id="changes-after")
        texts = gr.Textbox(
            label="Texts, a line each; without any, the test split",
            lines=4,
            max_length=200_000,
        )
        button = gr.Button("Compare", variant="primary")
        summary = gr.Markdown(elem_id="changes-summary")
        table = gr.Dataframe(headers=_HEADS, label="Flipped answers", interactive=False, wrap=True)

    def compare(
        name: str | None,
        first: int | None,
        second: int | None,
        lines: str,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[str, list[list[str]]]:
        if not name or not first or not second:
            return "⚠️ Choose a model with two versions first.", []
        try:
            examples = _examples(context, name, second, lines)
        except (BundleError, OSError, ValueError) as error:
            return f"⚠️ {error}", []
        found: list[tuple[Example, Answer, Answer]] = []
        for place, example in enumerate(examples):
            old = context.edge.answer(name, example.text, first)
            new = context.edge.answer(name, example.text, second)
            found.append((example, old, new))
            if failed := next((each for each in (old, new) if each.best is None), None):
                return failed.note, []
            progress((place + 1) / len(examples), desc=f"{place + 1} of {len(examples)}")
        return _tell(found)

    button.click(compare, [model, before, after, texts], [summary, table], api_name="changes")

    def versions(name: str | None) -> list[Any]:
        held = context.repository.versions(name) if name else []
        first, second = (held[-2], held[-1]) if len(held) > 1 else (None, None)
        return [gr.Dropdown(choices=held, value=first), gr.Dropdown(choices=held, value=second)]

    model.change(versions, model, [before, after], api_visibility="private")

    def update(held: Holdings, chosen: str | None, _: Any) -> list[Any]:
        names = held.of("text-classification")
        several = [name for name in names if len(context.repository.versions(name)) > 1]
        return [choice(several, chosen), gr.Tab(visible=bool(several))]

    return Watched([model, tab], update)


def _examples(context: Context, model: str, version: int, lines: str) -> list[Example]:
    """Those that were given; else the test split that the version was made with.

    Raises:
        ValueError: that split is not on this machine.
    """
    given = [Example(line.strip()) for line in lines.splitlines() if line.strip()]
    if given:
        return given[:_MOST]
    recipe = context.repository.load(model, version, verify=False).manifest.provenance.recipe
    path = Path(recipe["data"]["test"])
    if path.suffix != ".jsonl" or not path.is_file():
        raise ValueError(f"{path}, the test split, is not here; write some texts instead.")
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(_MOST), file, strict=False)]
    labels = recipe["data"]["labels"]
    return [Example(row["text"], _name(row["label"], labels)) for row in rows]


def _name(label: str | int, labels: list[str]) -> str:
    return labels[label] if isinstance(label, int) else label


def _tell(found: list[tuple[Example, Answer, Answer]]) -> tuple[str, list[list[str]]]:
    flipped = [each for each in found if each[1].best != each[2].best]
    labelled = [each for each in flipped if each[0].label]
    better = sum(example.label == new.best for example, _, new in labelled)
    worse = sum(example.label == old.best for example, old, _ in labelled)
    said = f"{len(flipped)} of {len(found)} answers changed."
    if labelled:
        said += f" {better} became right, {worse} became wrong."
    rows = [[e.text, e.label, _told(old), _told(new)] for e, old, new in flipped[:_SHOWN]]
    return said, rows


def _told(answer: Answer) -> str:
    best = answer.best or ""
    return f"{best} ({answer.scores[best]:.2f})"
