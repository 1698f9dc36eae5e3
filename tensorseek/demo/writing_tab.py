"""Text generation: streamed, stopped, and with the controls of sampling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from serving.errors import BackendUnavailable, ServingError
from serving.generation import Ending, Sampling
from tensorseek.demo.context import Context, Holdings, Watched, choice

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
            stop = gr.Button("Stop", variant="stop")
        text = gr.Textbox(label="What it writes", lines=8, interactive=False, elem_id="written")
        usage = gr.Markdown(elem_id="usage")
        with gr.Accordion("How it chooses words", open=False):
            settings = [
                gr.Slider(1, 1024, 200, step=1, label="Longest, in tokens"),
                gr.Slider(0, 2, 0.8, step=0.05, label="Temperature (0: the likeliest each time)"),
                gr.Slider(0, 200, 0, step=1, label="Among so many tokens (0: all)"),
                gr.Slider(0.05, 1, 1, step=0.05, label="Among this probability together"),
                gr.Slider(1, 2, 1, step=0.05, label="Penalty for repeating"),
                gr.Number(0, label="Seed: the same one, the same text", precision=0, minimum=0),
            ]

    def write(model: str | None, prompt: str, *chosen: Any) -> Iterator[tuple[str, str]]:
        if not model:
            yield "", "⚠️ There is no language model yet; train one, such as deepseek-v3-tiny."
            return
        yield from _write(context, model, prompt, *chosen)

    event = gr.on(
        [button.click, prompt.submit],
        write,
        [model, prompt, *settings],
        [text, usage],
        api_name="write",
    )
    stop.click(None, cancels=[event], api_visibility="private")

    def update(held: Holdings, chosen: str | None) -> list[Any]:
        names = held.of("text-generation")
        return [choice(names, chosen), gr.Tab(visible=bool(names))]

    return Watched([model, tab], lambda held, chosen, _: update(held, chosen))


def _write(  # noqa: PLR0913, PLR0917 (as many as the page has controls)
    context: Context,
    model: str,
    prompt: str,
    most: float,
    temperature: float,
    top_k: float,
    top_p: float,
    penalty: float,
    seed: float | None,
) -> Iterator[tuple[str, str]]:
    """The text so far and how it stands; what the page closes is cancelled in the gateway."""
    sampling = Sampling(
        temperature=temperature,
        top_k=int(top_k),
        top_p=top_p,
        repetition_penalty=penalty,
        seed=int(seed or 0),
    )
    written = ""
    try:
        pieces = context.cloud.write(model, prompt, most=int(most), sampling=sampling)
        try:
            for piece in pieces:
                written += piece
                yield written, "writing …"
        finally:
            pieces.cancel()
    except BackendUnavailable:
        yield written, "⚠️ The cloud is away; it may be back in a moment."
        return
    except ServingError as error:
        yield written, f"⚠️ {error}"
        return
    if pieces.ending is not None:
        yield written, _usage(pieces.ending)


def _usage(ending: Ending) -> str:
    per_s = 1e3 * ending.new_tokens / max(ending.total_ms, 1e-3)
    return (
        f"version {ending.version} · {ending.prompt_tokens} tokens read · {ending.new_tokens} "
        f"written · first after {ending.first_token_ms:.0f} ms · {per_s:.0f} tokens/s · "
        f"{_REASONS[ending.reason]}"
    )
