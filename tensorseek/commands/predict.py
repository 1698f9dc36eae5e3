"""`tensorseek predict`: asks the gateway."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensorseek.commands import example
from tensorseek.commands.inputs import Images, line, read_inputs
from tensorseek.commands.options import (
    Ca,
    Certificate,
    Gateway,
    Json,
    Key,
    PrivateKey,
    connect,
)

if TYPE_CHECKING:
    from serving.client import Client, Result

app = typer.Typer()

# An input as it is shown, its result, and what else a script reads.
_Found = Iterator[tuple[str, "Result", dict[str, Any]]]


@app.command(epilog=example('predict movie-sentiment "a fine film"'))
def predict(  # noqa: PLR0913, PLR0917 (typer makes an option of each)
    model: Annotated[str, typer.Argument(help="A model's name.")],
    texts: Annotated[list[str] | None, typer.Argument(help="One or several texts.")] = None,
    images: Images = None,
    file: Annotated[
        typer.FileText | None,
        typer.Option(help="One text a line, any number of them; - for standard input."),
    ] = None,
    gateway: Gateway = "127.0.0.1:9000",
    version: Annotated[int, typer.Option(min=0, help="0 for the one that is served.")] = 0,
    key: Key = None,
    ca: Ca = None,
    certificate: Certificate = None,
    private_key: PrivateKey = None,
    as_json: Json = False,
) -> None:
    """Classifies texts or pictures with a served model."""
    failed = False
    with connect(gateway, key, ca, certificate, private_key) as client:
        if file is None:
            found = _ask(client, model, read_inputs(texts, images), version)
        elif texts or images:
            raise typer.BadParameter("give either --file, or texts or pictures")
        else:
            found = _ask_many(client, model, file, version)
        for shown, result, more in found:
            if isinstance(result, Exception):
                failed = True
                typer.echo(f"tensorseek: {result}", err=True)
            elif isinstance(result, Mapping):
                failed = True
                typer.echo(f"tensorseek: {model} is a language model: it has no labels", err=True)
            else:
                typer.echo(line(shown, result, as_json, **more))
    if failed:
        raise typer.Exit(1)


def _ask(
    client: Client, model: str, inputs: Iterable[tuple[str, str | bytes]], version: int
) -> _Found:
    names, raw = zip(*inputs, strict=True)
    answer = client.predict(model, raw, version)
    for shown, result in zip(names, answer.results, strict=True):
        yield shown, result, {"version": answer.version}


def _ask_many(client: Client, model: str, lines: Iterable[str], version: int) -> _Found:
    shown, sent = itertools.tee(text.rstrip("\r\n") for text in lines)
    for text, result in zip(shown, client.predict_many(model, sent, version), strict=False):
        yield text, result, {}
