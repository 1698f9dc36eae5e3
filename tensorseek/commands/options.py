"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serving.client import Client

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Models = Annotated[Path, typer.Option(help="The model repository.")]
Runs = Annotated[Path, typer.Option(help="Weights, recipes and logs of training runs.")]
Gateway = Annotated[str, typer.Option(help="Address of the gateway.")]
Key = Annotated[
    str | None, typer.Option(envvar="TENSORSEEK_KEY", help="The API key, if the gateway asks one.")
]
Ca = Annotated[
    Path | None, typer.Option(help="PEM of who signed the gateway's certificate; encrypts.")
]
Certificate = Annotated[Path | None, typer.Option(help="PEM of your own, if it asks for one.")]
PrivateKey = Annotated[Path | None, typer.Option(help="PEM of the certificate's key.")]
TrustedKeys = Annotated[
    list[Path] | None,
    typer.Option("--trusted", help="A public key (.pub), or a folder of them; repeatable."),
]


def connect(
    gateway: str,
    key: str | None,
    ca: Path | None,
    certificate: Path | None,
    private_key: Path | None,
) -> Client:
    """A client of the gateway that these options name."""
    from serving.client import Client, Tls

    tls = Tls(ca=ca, certificate=certificate, private_key=private_key)
    return Client(gateway, key=key, tls=tls if ca or certificate else None)
