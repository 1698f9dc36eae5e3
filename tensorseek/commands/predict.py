"""`tensorseek predict`: asks the gateway."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from tensorseek.commands import example
from tensorseek.commands.options import Gateway, Json

app = typer.Typer()


@app.command(epilog=example('predict movie-sentiment "a fine film"'))
def predict(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    texts: Annotated[list[str], typer.Argument(help="One or several texts.")],
    gateway: Gateway = "127.0.0.1:9000",
    version: Annotated[int, typer.Option(min=0, help="0 for the one that is served.")] = 0,
    as_json: Json = False,
) -> None:
    """Classifies texts with a served model."""
    from serving.client import Client

    with Client(gateway) as client:
        answer = client.predict(model, texts, version)
    failed = False
    for text, result in zip(texts, answer.results, strict=True):
        if isinstance(result, Exception):
            failed = True
            typer.echo(f"tensorseek: {result}", err=True)
        elif as_json:
            scores = {item.label: item.score for item in result}
            line = {"text": text, "label": result[0].label, "scores": scores}
            typer.echo(json.dumps(line | {"version": answer.version}))
        else:
            typer.echo("  ".join(f"{item.label} {item.score:.4f}" for item in result))
    if failed:
        raise typer.Exit(1)
