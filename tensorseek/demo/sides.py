"""Two panels side by side: what the cloud and the edge make of one input."""

from __future__ import annotations

from typing import Any

import gradio as gr

from bundle.preprocess import Raw
from tensorseek.demo.answers import Answer
from tensorseek.demo.context import Context

MISSING = Answer("⚠️ There is no model yet; make one with: tensorseek quickstart")


def build(name: str) -> list[Any]:
    """The panels; `name` tells them apart from those of other tabs."""
    with gr.Row():
        panels = [*_panel(name, "Cloud"), *_panel(name, "Edge")]
    return [*panels, gr.Markdown(elem_id=f"{name}-agreement")]


def show(cloud: Answer, edge: Answer) -> tuple[Any, ...]:
    """The panels' values."""
    said = ""
    if cloud.best is not None and edge.best is not None:
        gap = max(abs(score - edge.scores.get(label, 0.0)) for label, score in cloud.scores.items())
        agree = "agree" if cloud.best == edge.best else "**disagree**"
        said = f"Cloud and edge {agree}; their probabilities differ by at most {gap:.3f}."
    return (cloud.scores or None, cloud.note, edge.scores or None, edge.note, said)


def ask(context: Context, model: str | None, raw: Raw) -> tuple[Any, ...]:
    """Both sides' answers to one input, as the panels' values."""
    if not model:
        return show(MISSING, MISSING)
    return show(context.cloud.answer(model, raw), context.edge.answer(model, raw))


def _panel(name: str, title: str) -> tuple[gr.Label, gr.Markdown]:
    with gr.Column():
        gr.Markdown(f"## {title}")
        label = gr.Label(label=f"{title}: labels", show_label=False)
        return label, gr.Markdown(elem_id=f"{name}-{title.lower()}-note")
