"""The Gradio page. Nothing of it comes from, or goes to, any other machine."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported
import gradio as gr

from bundle.repository import ModelRepository
from tensorseek.demo.answers import Answer, Cloud, Edge
from tensorseek.errors import StackError

_TITLE = "Tensorseek: one model, in the cloud and on the edge"
_EXAMPLES = (
    "a warm, funny and beautifully acted film",
    "two hours of my life that I will never get back",
    "the plot is thin, but the cast is a joy to watch",
)


def build(models: Path, gateway: str) -> gr.Blocks:
    """The page over a gateway and the edge bundles of a model repository."""
    cloud, edge = Cloud(gateway), Edge(models)
    repository = ModelRepository(models)

    def ask(model: str | None, text: str) -> tuple[Any, ...]:
        if model is None:
            missing = Answer("⚠️ There is no model yet; make one with: tensorseek quickstart")
            return _show(missing, missing)
        return _show(cloud.answer(model, text), edge.answer(model, text))

    def refresh() -> Any:
        names = repository.names()
        return gr.Dropdown(choices=names, value=names[0] if names else None)

    with gr.Blocks(title=_TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {_TITLE}")
        model = gr.Dropdown(label="Model", interactive=True)
        text = gr.Textbox(label="Text", placeholder="Write a sentence about a film", lines=3)
        button = gr.Button("Classify", variant="primary")
        _examples(text)
        with gr.Row():
            panels = [*_panel("Cloud"), *_panel("Edge")]
        gr.on([button.click, text.submit], ask, [model, text], panels, api_name="classify")
        page.load(refresh, None, model, api_visibility="private")
    return page


def serve(*, models: Path, gateway: str, host: str, port: int) -> None:
    """Shows the page until SIGTERM or Ctrl-C.

    Raises:
        StackError: the port is in use.
    """
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise StackError(f"port {port} is in use; choose another with --port")
    # Blocked before any thread starts, so that `sigwait` can't miss one.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    page = build(models, gateway)
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        quiet=True,
    )
    print(f"demo on http://{host}:{port}", flush=True)
    signal.sigwait(signals)
    page.close(verbose=False)


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


def _panel(title: str) -> tuple[gr.Label, gr.Markdown]:
    with gr.Column():
        gr.Markdown(f"## {title}")
        return gr.Label(label=f"{title} scores"), gr.Markdown(elem_id=f"{title.lower()}-note")


def _show(*sides: Answer) -> tuple[Any, ...]:
    values: list[Any] = []
    for side in sides:
        values += [side.scores or None, side.note]
    return tuple(values)
