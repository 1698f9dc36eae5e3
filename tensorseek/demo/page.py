"""The Gradio page. Nothing of it comes from, or goes to, any other machine."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported
import gradio as gr

from bundle.repository import ModelRepository
from tensorseek.demo import (
    changes_tab,
    image_tab,
    models_tab,
    text_tab,
    training_tab,
    writing_tab,
)
from tensorseek.demo.answers import Cloud, Edge
from tensorseek.demo.context import Context
from tensorseek.errors import StackError

_TITLE = "Tensorseek: one model, in the cloud and on the edge"
_TABS = (text_tab, image_tab, writing_tab, models_tab, training_tab, changes_tab)
_EVERY_S = 3
_MOST_BYTES = 32 << 20  # of an uploaded file
_HERE = Path(__file__).parent


def build(models: Path, gateway: str, runs: Path) -> gr.Blocks:
    """The page over a gateway, the edge bundles of a model repository, and training runs."""
    context = Context(
        cloud=Cloud(gateway), edge=Edge(models), repository=ModelRepository(models), runs=runs
    )
    with gr.Blocks(title=_TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {_TITLE}")
        status = gr.Markdown(elem_id="status")
        with gr.Tabs():
            tabs = [tab.build(context) for tab in _TABS]
        watched = [output for tab in tabs for output in tab.outputs]

        def refresh(*values: Any) -> list[Any]:
            held = context.holdings()
            updates: list[Any] = [context.cloud.trouble() or ""]
            left = list(values)
            for tab in tabs:
                own, left = left[: len(tab.outputs)], left[len(tab.outputs) :]
                updates += tab.update(held, *own)
            return updates

        script = (_HERE / "accessible.js").read_text(encoding="utf-8")
        page.load(None, js=script, api_visibility="private")
        # A tab itself has no value to read.
        read = [each if not isinstance(each, gr.Tab) else gr.State(None) for each in watched]
        for event in (page.load, gr.Timer(_EVERY_S).tick):
            event(
                refresh,
                read,
                [status, *watched],
                show_progress="hidden",
                api_visibility="private",
                trigger_mode="once",
            )
    return page


def serve(
    *,
    models: Path,
    gateway: str,
    runs: Path,
    host: str,
    port: int,
    may_enter: Callable[[str, str], bool] | None = None,
) -> None:
    """Shows the page until SIGTERM or Ctrl-C.

    Args:
        may_enter: whether a name and its password are right; None lets everybody in.

    Raises:
        StackError: the port is in use.
    """
    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise StackError(f"port {port} is in use; choose another with --port")
    # Blocked before any thread starts, so that `sigwait` can't miss one.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    page = build(models, gateway, runs)
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        ssr_mode=False,
        enable_monitoring=False,
        quiet=True,
        auth=may_enter,
        css=(_HERE / "style.css").read_text(encoding="utf-8"),
        max_file_size=_MOST_BYTES,
        footer_links=["api"],
    )
    print(f"demo on http://{host}:{port}", flush=True)
    signal.sigwait(signals)
    page.close(verbose=False)
