"""Text generation: streamed, stopped, and with the controls of sampling."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from serving.errors import BackendUnavailable, ServingError
from serving.generation import Ending, Generation, Sampling
from tensorseek.demo.context import Context, Holdings, Watched, choice

_WRITING = "writing …"
_REASONS = {
    "end": "the model ended the text",
    "stop": "a stop text came",
    "length": "as long as was asked for, or as the model can hold",
}


def build(context: Context) -> Watched:
    """The tab, and what of it follows the models."""
    with gr.Tab("Writing", id="writing", visible=False) as tab:
        model = gr.Dropdown(label="Language model", interactive=True, elem_id="writing-model")
        prompt = gr.Textbox(label="Prompt", lines=3, value="ROMEO:", max_length=100_000)
        with gr.Row():
            button = gr.Button("Write", variant="primary")
            stop = gr.Button("Stop", variant="stop", interactive=False)
        text = gr.Textbox(label="What it writes", lines=8, interactive=False, elem_id="written")
        usage = gr.Markdown(elem_id="usage")
        settings = _controls()

    running: dict[str, Generation] = {}  # by visitor

    def write(
        request: gr.Request, model: str | None, prompt: str, *chosen: Any
    ) -> Iterator[tuple[str, str]]:
        if not model:
            yield "", "⚠️ There is no language model yet; train one, such as deepseek-v3-tiny."
            return
        most, sampling = _settings(*chosen)
        pieces = context.cloud.write(model, prompt, most=most, sampling=sampling)
        visitor = request.session_hash or ""
        running[visitor] = pieces
        try:
            yield from _written(pieces, lambda: running.get(visitor) is not pieces)
        finally:
            pieces.cancel()  # also when the page is closed
            if running.get(visitor) is pieces:
                del running[visitor]

    def end(request: gr.Request) -> None:
        pieces = running.pop(request.session_hash or "", None)
        if pieces is not None:
            pieces.cancel()

    gr.on(
        [button.click, prompt.submit],
        write,
        [model, prompt, *settings],
        [text, usage],
        api_name="write",
    )
    # Not Gradio's `cancels`: a stop that comes before the server has named the call is lost there,
    # with an error in the console, and the model writes on.
    stop.click(end, queue=False, api_visibility="private")
    usage.change(
        None,
        usage,
        stop,
        js=f"said => ({{interactive: said === {json.dumps(_WRITING)}, __type__: 'update'}})",
        api_visibility="private",
    )

    def update(held: Holdings, chosen: str | None) -> list[Any]:
        names = held.of("text-generation")
        return [choice(names, chosen), gr.Tab(visible=bool(names))]

    return Watched([model, tab], lambda held, chosen, _: update(held, chosen))


def _controls() -> list[Any]:
    """What `_settings` takes, in its order."""
    with gr.Accordion("How it chooses words", open=False):
        return [
            gr.Slider(1, 1024, 200, step=1, label="Longest, in tokens"),
            gr.Slider(0, 2, 0.8, step=0.05, label="Temperature (0: the likeliest each time)"),
            gr.Slider(0, 200, 0, step=1, label="Among so many tokens (0: all)"),
            gr.Slider(0.05, 1, 1, step=0.05, label="Among this probability together"),
            gr.Slider(1, 2, 1, step=0.05, label="Penalty for repeating"),
            gr.Number(0, label="Seed: the same one, the same text", precision=0, minimum=0),
        ]


def _settings(
    most: float,
    temperature: float,
    top_k: float,
    top_p: float,
    penalty: float,
    seed: float | None,
) -> tuple[int, Sampling]:
    return int(most), Sampling(
        temperature=temperature,
        top_k=int(top_k),
        top_p=top_p,
        repetition_penalty=penalty,
        seed=int(seed or 0),
    )


def _written(pieces: Generation, is_stopped: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """The text so far, and how it stands."""
    written = ""
    yield written, _WRITING
    try:
        for piece in pieces:
            written += piece
            yield written, _WRITING
    except ServingError as error:
        away = isinstance(error, BackendUnavailable)
        said = "The cloud is away; it may be back in a moment." if away else str(error)
        yield written, "stopped" if is_stopped() else f"⚠️ {said}"
    if pieces.ending is not None:
        yield written, _usage(pieces.ending)


def _usage(ending: Ending) -> str:
    per_s = 1e3 * ending.new_tokens / max(ending.total_ms, 1e-3)
    return (
        f"version {ending.version} · {ending.prompt_tokens} tokens read · {ending.new_tokens} "
        f"written · first after {ending.first_token_ms:.0f} ms · {per_s:.0f} tokens/s · "
        f"{_REASONS[ending.reason]}"
    )
