"""`tensorseek generate`: has a served language model write on, to the terminal as it comes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from tensorseek.commands import example
from tensorseek.commands.options import (
    Ca,
    Certificate,
    Gateway,
    Json,
    Key,
    PrivateKey,
    connect,
)

app = typer.Typer()


@app.command(epilog=example('generate tinyshakespeare "ROMEO:" --temperature 0.8'))
def generate(  # noqa: PLR0913, PLR0917 (typer makes an option of each)
    model: Annotated[str, typer.Argument(help="A language model's name.")],
    prompt: Annotated[str, typer.Argument(help="The text that it goes on from.")],
    max_new_tokens: Annotated[
        int, typer.Option(min=0, help="0 for as many as the gateway and the model allow.")
    ] = 128,
    temperature: Annotated[
        float, typer.Option(min=0, help="0 takes the most probable token each time.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="Among so many tokens; 0 for all.")] = 0,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Among tokens of this probability together.")
    ] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option(min=0, help="Above 1 avoids what is there already.")
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, help="The same one, the same text.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Ends the text; repeatable.")] = None,
    gateway: Gateway = "127.0.0.1:9000",
    version: Annotated[int, typer.Option(min=0, help="0 for the one that is served.")] = 0,
    key: Key = None,
    ca: Ca = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    as_json: Json = False,
) -> None:
    """Writes on from a prompt with a served language model."""
    from serving.generation import Sampling

    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    with connect(gateway, key, ca, certificate, private_key) as client:
        text = client.generate(
            model,
            prompt,
            max_new_tokens=max_new_tokens,
            stop=stop or (),
            sampling=sampling,
            version=version,
        )
        if as_json:
            written = text.text()
        else:
            for piece in text:
                typer.echo(piece, nl=False)
            typer.echo()
    ending = text.ending
    if as_json and ending is not None:
        typer.echo(json.dumps({"text": written, **asdict(ending)}))
