"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
Models = Annotated[Path, typer.Option(help="The model repository.")]
Runs = Annotated[Path, typer.Option(help="Weights, recipes and logs of training runs.")]
Gateway = Annotated[str, typer.Option(help="Address of the gateway.")]
TrustedKeys = Annotated[
    list[Path] | None,
    typer.Option("--trusted", help="A public key (.pub), or a folder of them; repeatable."),
]
