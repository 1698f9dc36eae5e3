"""Pictures: uploaded, pasted, or from the webcam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tensorseek.demo import sides
from tensorseek.demo.answers import Answer
from tensorseek.demo.context import Context, Holdings, Watched, choice

_NO_PICTURE = Answer("⚠️ Choose a picture first.")


def build(context: Context) -> Watched:
    """The tab, and what of it follows the models."""
    with gr.Tab("Pictures", id="images", visible=False) as tab:
        model = gr.Dropdown(label="Picture model", interactive=True, elem_id="image-model")
        picture = gr.Image(
            label="Picture",
            type="filepath",
            format="png",
            sources=["upload", "clipboard", "webcam"],
            height=320,
        )
        button = gr.Button("Classify the picture", variant="primary")
        panels = sides.build("image")

    def ask(model: str | None, path: str | None) -> tuple[Any, ...]:
        if path is None:
            return sides.show(_NO_PICTURE, _NO_PICTURE)
        return sides.ask(context, model, Path(path).read_bytes())

    gr.on([button.click, picture.input], ask, [model, picture], panels, api_name="classify_picture")

    def update(held: Holdings, chosen: str | None) -> list[Any]:
        names = held.of("image-classification")
        return [choice(names, chosen), gr.Tab(visible=bool(names))]

    return Watched([model, tab], lambda held, chosen, _: update(held, chosen))
