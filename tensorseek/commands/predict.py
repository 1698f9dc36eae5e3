"""`tensorseek predict`: asks the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from tensorseek.commands import example
from tensorseek.commands.inputs import Images, line, read_inputs
from tensorseek.commands.options import Gateway, Json

app = typer.Typer()


@app.command(epilog=example('predict movie-sentiment "a fine film"'))
def predict(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    texts: Annotated[list[str] | None, typer.Argument(help="One or several texts.")] = None,
    images: Images = None,
    gateway: Gateway = "127.0.0.1:9000",
    version: Annotated[int, typer.Option(min=0, help="0 for the one that is served.")] = 0,
    as_json: Json = False,
) -> None:
    """Classifies texts or pictures with a served model."""
    from serving.client import Client

    inputs = read_inputs(texts, images)
    with Client(gateway) as client:
        answer = client.predict(model, [raw for _, raw in inputs], version)
    failed = False
    for (shown, _), result in zip(inputs, answer.results, strict=True):
        if isinstance(result, Exception):
            failed = True
            typer.echo(f"tensorseek: {result}", err=True)
        elif isinstance(result, Mapping):
            failed = True
            typer.echo(f"tensorseek: {model} is a language model: it has no labels", err=True)
        else:
            typer.echo(line(shown, result, as_json, version=answer.version))
    if failed:
        raise typer.Exit(1)
