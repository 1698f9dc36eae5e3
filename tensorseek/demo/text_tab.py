"""Texts: one at a time, or a whole file of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from tensorseek.demo import batch, sides
from tensorseek.demo.context import Context, Holdings, Watched, choice

_EXAMPLES = (
    "a warm, funny and beautifully acted film",
    "two hours of my life that I will never get back",
    "the plot is thin, but the cast is a joy to watch",
)


def build(context: Context) -> Watched:
    """The tab, and what of it follows the models."""
    with gr.Tab("Text", id="text", visible=False) as tab:
        model = gr.Dropdown(label="Model", interactive=True, elem_id="text-model")
        text = gr.Textbox(label="Text", placeholder="Write a sentence", lines=3, max_length=100_000)
        button = gr.Button("Classify", variant="primary")
        _examples(text)
        panels = sides.build("text")
        with gr.Accordion("A whole file", open=False):
            gr.Markdown("A CSV file with a column `text`, of at most 10,000 rows.")
            file = gr.File(label="CSV file", file_types=[".csv"], file_count="single")
            run = gr.Button("Classify the file")
            summary = gr.Markdown(elem_id="batch-summary")
            result = gr.DownloadButton("Download the answers", visible=False)

    def ask(model: str | None, text: str) -> tuple[Any, ...]:
        return sides.ask(context, model, text)

    def classify(
        model: str | None,
        path: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        def told(share: float, done: str) -> None:
            progress(share, desc=done)

        if not model or not path:
            return "⚠️ Choose a model and a CSV file first.", gr.DownloadButton(visible=False)
        try:
            found = batch.classify(context, model, Path(path), told)
        except batch.BatchError as error:
            return f"⚠️ {error}", gr.DownloadButton(visible=False)
        return found.summary, gr.DownloadButton(value=str(found.path), visible=True)

    gr.on([button.click, text.submit], ask, [model, text], panels, api_name="classify")
    run.click(classify, [model, file], [summary, result], api_name="classify_file")

    def update(held: Holdings, chosen: str | None) -> list[Any]:
        names = held.of("text-classification")
        return [choice(names, chosen), gr.Tab(visible=bool(names) or not held.by_task)]

    return Watched([model, tab], lambda held, chosen, _: update(held, chosen))


def _examples(text: gr.Textbox) -> None:
    """Sentences that fill the text when clicked.

    Buttons, and filled in the browser: `gr.Examples` throws in the page while a slow machine
    still loads its parts.
    """
    with gr.Row():
        for example in _EXAMPLES:
            gr.Button(example, size="sm").click(
                None, None, text, js=f"() => {json.dumps(example)}", api_visibility="private"
            )
