"""`tensorseek serve backend | gateway | config`, `up` and `demo`: what runs until it is stopped."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from bundle.repository import ModelRepository
from tensorseek import stack
from tensorseek.commands import example
from tensorseek.commands.options import Gateway, Models, Runs
from tensorseek.process import follow_parent

app = typer.Typer()
serve = typer.Typer(no_args_is_help=True, help="Serves models: backend or gateway.")
app.add_typer(serve, name="serve")

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")]


@serve.command(epilog=example("serve backend --models models --port 8500"))
def backend(
    models: Models = Path("models"),
    host: Host = stack.HOST,
    port: Port = 8500,
    rest_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of HTTP, TensorFlow Serving's is 8501; none by default."
        ),
    ] = None,
) -> None:
    """Starts the embedded TensorFlow Serving over a model repository."""
    follow_parent()
    from serving import logs
    from serving.backend import server
    from serving.backend.config import BackendConfig, Rest
    from serving.tfs_config import METRICS_PATH

    rest = None if rest_port is None else Rest(port=rest_port, metrics_path=METRICS_PATH)
    config = BackendConfig(models=models, host=host, port=port, rest=rest)
    logs.configure()
    server.run(config)


@serve.command(epilog=example("serve gateway --models models --backend 127.0.0.1:8500"))
def gateway(
    config: Annotated[
        Path | None, typer.Option(help="A YAML file of settings; options given here win.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="The model repository; models by default.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of TensorFlow Serving or of the embedded backend, 127.0.0.1:8500 by "
            "default; several share the calls."
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on, 127.0.0.1 by default; 0.0.0.0 for every network."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of gRPC, 9000 by default; 0 for any.")
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Of health, metrics and JSON, 9001 by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the ports; 1 by default.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only says whether the settings are valid.")
    ] = False,
) -> None:
    """Starts the gateway: our gRPC API, and HTTP for JSON, health and metrics."""
    follow_parent()
    from serving import logs
    from serving.gateway import config_file
    from serving.gateway import workers as processes
    from serving.gateway.config import GatewayConfig
    from serving.gateway.config_file import Source

    options = {
        "models": models and models.absolute(),
        "backend": tuple(backend) if backend else None,
        "host": host,
        "port": port,
        "http_port": http_port,
        "workers": workers,
    }
    given = {name: value for name, value in options.items() if value is not None}
    source = Source(config, given) if config else None
    defaults: dict[str, Any] = {"models": Path("models"), "backend": f"{stack.HOST}:8500"}
    settings = source.load() if source else GatewayConfig(**defaults | given)
    if check:
        config_file.check(settings)
        typer.echo(f"{config or 'the settings'}: valid")
        return
    logs.configure()
    processes.run(settings, source, prepare=logs.configure)


@serve.command(epilog=example("serve key mobile-app --file keys.yaml"))
def key(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    file: Annotated[Path, typer.Option(help="Where its hash goes.")] = Path("keys.yaml"),
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may ask, repeatable; all by default.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Calls a second; any number by default.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Calls at once; any number by default.")
    ] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="May have the backend reload its configuration.")
    ] = False,
) -> None:
    """Makes an API key of the gateway, and prints it: it can't be shown again."""
    from serving.gateway import access

    typer.echo(
        access.add(file, name, models=model, rate_per_s=rate, concurrency=concurrency, admin=admin)
    )


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
    runs: Runs = Path("runs"),
) -> None:
    """Starts backend, gateway and demo, and keeps them running until Ctrl-C or SIGTERM."""
    ports = stack.Ports(backend=backend_port, gateway=gateway_port, http=http_port, demo=demo_port)
    ports.check_free()
    has_model = bool(ModelRepository(models).names())
    children = [
        stack.backend(models, ports, logs),
        stack.gateway(models, ports, logs, needs_model=has_model),
        stack.demo(models, ports, logs, runs),
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
    runs: Runs = Path("runs"),
    host: Host = stack.HOST,
    port: Port = 7860,
    logins: Annotated[
        Path | None,
        typer.Option(help="A file with name:password a line; by default all may enter."),
    ] = None,
) -> None:
    """Starts the page where people try the models, in the cloud and on the edge."""
    follow_parent()
    from tensorseek.demo import login, page

    may_enter = None if logins is None else login.read(logins)
    page.serve(models=models, gateway=gateway, runs=runs, host=host, port=port, may_enter=may_enter)
