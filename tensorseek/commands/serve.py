"""`tensorseek serve backend | gateway | config`, `up` and `demo`: what runs until it is stopped."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from bundle.repository import ModelRepository
from tensorseek import stack
from tensorseek.commands import example
from tensorseek.commands.options import Gateway, Models
from tensorseek.process import follow_parent

app = typer.Typer()
serve = typer.Typer(no_args_is_help=True, help="Serves models: backend or gateway.")
app.add_typer(serve, name="serve")

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")]


@serve.command(epilog=example("serve backend --models models --port 8500"))
def backend(models: Models = Path("models"), host: Host = stack.HOST, port: Port = 8500) -> None:
    """Starts the embedded TensorFlow Serving over a model repository."""
    follow_parent()
    from serving import logs
    from serving.backend import server
    from serving.backend.config import BackendConfig

    config = BackendConfig(models=models, host=host, port=port)
    logs.configure()
    server.run(config)


@serve.command(epilog=example("serve gateway --models models --backend 127.0.0.1:8500"))
def gateway(
    models: Models = Path("models"),
    backend: Annotated[
        str, typer.Option(help="Address of TensorFlow Serving or of the embedded backend.")
    ] = f"{stack.HOST}:8500",
    host: Host = stack.HOST,
    port: Port = 9000,
    http_port: Port = 9001,
) -> None:
    """Starts the gateway: our gRPC API, and HTTP for health and metrics."""
    follow_parent()
    from serving import logs
    from serving.gateway import server
    from serving.gateway.config import GatewayConfig

    config = GatewayConfig(
        models=models, backend=backend, host=host, port=port, http_port=http_port
    )
    logs.configure()
    server.run(config)


@serve.command(epilog=example("serve config --models models --out config"))
def config(
    models: Models = Path("models"),
    out: Annotated[Path, typer.Option(help="Folder of the files.")] = Path("config"),
    base: Annotated[
        str, typer.Option(help="Where TensorFlow Serving has the model repository.")
    ] = "/models",
    max_rows: Annotated[int, typer.Option(help="Of one merged run of a model.")] = 64,
    threads: Annotated[int, typer.Option(help="Merged runs at once.")] = 2,
    every: Annotated[
        float | None, typer.Option(min=1, help="Look again after so many seconds, and so on.")
    ] = None,
) -> None:
    """Writes TensorFlow Serving's models.config, batching and monitoring files."""
    import threading
    from pathlib import PurePosixPath

    from serving import tfs_config

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    batching = tfs_config.Batching(max_rows=max_rows, threads=threads)
    repository = ModelRepository(models)
    while True:
        for name in tfs_config.write(repository, PurePosixPath(base), out, batching):
            typer.echo(f"wrote {out / name}")
        if every is None or stopped.wait(every):
            return


@app.command(epilog=example("up --models models"))
def up(
    models: Models = Path("models"),
    backend_port: Port = 8500,
    gateway_port: Port = 9000,
    http_port: Port = 9001,
    demo_port: Port = 7860,
    logs: Annotated[Path, typer.Option(help="Folder of the log files.")] = Path("runs/logs"),
) -> None:
    """Starts backend, gateway and demo, and keeps them running until Ctrl-C or SIGTERM."""
    ports = stack.Ports(backend=backend_port, gateway=gateway_port, http=http_port, demo=demo_port)
    ports.check_free()
    has_model = bool(ModelRepository(models).names())
    children = [
        stack.backend(models, ports, logs),
        stack.gateway(models, ports, logs, needs_model=has_model),
        stack.demo(models, ports, logs),
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end in KeyboardInterrupt
    with contextlib.suppress(KeyboardInterrupt), stack.running(children):
        stack.wait_ready(children)
        typer.echo(f"backend  grpc://{stack.HOST}:{ports.backend}")
        typer.echo(f"gateway  grpc://{stack.HOST}:{ports.gateway}")
        typer.echo(f"demo     http://{stack.HOST}:{ports.demo}")
        stack.supervise(children, lambda line: typer.echo(line, err=True))


@app.command(epilog=example("demo --models models --gateway 127.0.0.1:9000"))
def demo(
    models: Models = Path("models"),
    gateway: Gateway = f"{stack.HOST}:9000",
    host: Host = stack.HOST,
    port: Port = 7860,
) -> None:
    """Starts the page where people try the models, in the cloud and on the edge."""
    follow_parent()
    from tensorseek.demo import page

    page.serve(models=models, gateway=gateway, host=host, port=port)
