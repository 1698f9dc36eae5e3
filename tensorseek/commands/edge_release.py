"""`tensorseek edge keygen | sign | index | update`: from a publisher's key to a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tensorseek.commands import example
from tensorseek.commands.options import Json, TrustedKeys

app = typer.Typer()

Key = Annotated[Path, typer.Option(help="The publisher's private key, a .key file.")]
Bundle = Annotated[Path, typer.Argument(help="An edge bundle: …/edge/<N>-<profile>.zip.")]


@app.command(epilog=example("edge keygen keys/publisher"))
def keygen(name: Annotated[Path, typer.Argument(help="Makes <name>.key and <name>.pub.")]) -> None:
    """Makes a pair of Ed25519 keys: one signs, the other goes onto every device."""
    from bundle import signing

    private, public = signing.generate(name)
    typer.echo(f"{private}: keep it secret; it signs what devices will run")
    typer.echo(f"{public}: copy it to the devices")


@app.command(
    epilog=example(
        "edge sign models/movie-sentiment/edge/1-dynamic_int8.zip --key keys/publisher.key"
    )
)
def sign(bundle: Bundle, key: Key) -> None:
    """Signs an edge bundle, in place."""
    from bundle.signing import SigningKey
    from edge import package

    found = package.sign(bundle, SigningKey.read(key))
    typer.echo(f"{bundle}: signed by key {found.key_id}")


@app.command(
    epilog=example(
        "edge index models/movie-sentiment/edge/1-dynamic_int8.zip --key keys/publisher.key"
    )
)
def index(
    bundle: Bundle,
    key: Key,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Devices may go back to this older version.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Offers a signed bundle to devices: writes the signed index.json beside it."""
    import msgspec

    from bundle.signing import SigningKey
    from edge.update import release

    found = release.write(bundle, SigningKey.read(key), rollback=rollback)
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    typer.echo(f"{bundle.parent}: offers {found.model} version {found.version} {found.profile}")


@app.command(
    epilog=example("edge update device models/movie-sentiment/edge --trusted keys/publisher.pub")
)
def update(
    device: Annotated[Path, typer.Argument(help="This device's folder of the model.")],
    source: Annotated[str, typer.Argument(help="The publisher's folder or http:// address.")],
    trusted: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Installs what the publisher offers, if it is newer and answers rightly on this device."""
    from bundle.signing import Trusted
    from edge.update import install
    from edge.update.device import Device
    from edge.update.source import Source

    if not trusted:
        raise typer.BadParameter("give the publisher's public key with --trusted FILE.pub")
    keys = Trusted.read(trusted)
    done = install.update(Device(device, keys), Source(source), keys)
    found = done.release
    if as_json:
        answer = {"model": found.model, "version": found.version, "installed": done.installed}
        typer.echo(json.dumps(answer))
        return
    verb = "installed" if done.installed else "is what runs already:"
    typer.echo(f"{device}: {verb} {found.model} version {found.version} {found.profile}")
