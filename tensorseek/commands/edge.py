"""`tensorseek edge run | verify | serve | bench`: a quantized bundle on this device."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bundle.errors import InputError
from bundle.preprocess import Raw
from bundle.signing import Trusted
from edge.runner import EdgeRunner
from tensorseek.commands import edge_release, example
from tensorseek.commands.inputs import Images, line, read_inputs
from tensorseek.commands.options import Json, TrustedKeys

_WRITING = "Of a language model"

app = typer.Typer(no_args_is_help=True, help="Runs and verifies edge bundles on this device.")
app.registered_commands += edge_release.app.registered_commands

Bundle = Annotated[
    Path,
    typer.Argument(help="An edge bundle, …/edge/<N>-<profile>.zip, or a device's folder."),
]
Ask = Callable[[str, Raw, bool], Iterator[str]]  # shown as, input, whether in JSON → pieces
Threads = Annotated[int, typer.Option(min=1, max=64, help="CPU threads of one call.")]


@app.command(
    epilog=example('edge run models/movie-sentiment/edge/1-dynamic_int8.zip "a fine film"')
)
def run(  # noqa: PLR0913, PLR0917 (typer makes an option of each)
    bundle: Bundle,
    texts: Annotated[list[str] | None, typer.Argument(help="One or several texts.")] = None,
    images: Images = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, rich_help_panel=_WRITING, help="By default up to 256.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, rich_help_panel=_WRITING, help="0 takes the most likely token."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=_WRITING, help="Among so many tokens.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(max=1, rich_help_panel=_WRITING, help="Among those this likely together."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, rich_help_panel=_WRITING, help="The same, the same text.")
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(rich_help_panel=_WRITING, help="Ends the text; repeatable."),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help='Read {"text": …} lines, and answer each with one.')
    ] = False,
    threads: Threads = 1,
    trusted: TrustedKeys = None,
    as_json: Json = False,
) -> None:
    """Classifies texts or pictures, a line each; a language model writes on from the texts."""
    inputs = [] if lines else read_inputs(texts, images)
    settings = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop": tuple(stop) if stop else None,
    }
    runner, answered = _open(bundle, threads, trusted)
    ask = _asking(runner, {name: each for name, each in settings.items() if each is not None})
    if lines:
        for given in sys.stdin:
            typer.echo(_answer_line(given, ask))
            answered()
    for shown, raw in inputs:
        for piece in ask(shown, raw, as_json):
            typer.echo(piece, nl=False)
        typer.echo()
        answered()


@app.command(epilog=example("edge verify models/movie-sentiment/edge/1-dynamic_int8.zip"))
def verify(
    bundle: Bundle, threads: Threads = 1, trusted: TrustedKeys = None, as_json: Json = False
) -> None:
    """Checks signature and hashes, loads the model, and compares its answers with the published."""
    runner = EdgeRunner.open(bundle, threads, Trusted.read(trusted) if trusted else None)
    manifest, proven = runner.manifest, runner.verification
    if as_json:
        answer = {"model": manifest.name, "version": manifest.version, **vars(proven)}
        more = {"runtime": runner.runtime.name, "signed": bool(trusted)}
        typer.echo(json.dumps(answer | more))
        return
    typer.echo(f"{manifest.name} version {manifest.version}: good")
    if trusted:
        typer.echo("signed by a trusted key")
    typer.echo(f"{proven.files} files have their published SHA-256")
    typer.echo(
        f"{proven.golden_examples} golden inputs answered by {runner.runtime.name} "
        f"{runner.runtime.version}: largest difference {proven.golden_difference:.4f}, "
        f"tolerance {proven.golden_tolerance:.4f}"
    )


@app.command(epilog=example("edge serve models/movie-sentiment/edge/1-dynamic_int8.zip"))
def serve(
    bundle: Bundle,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9002,
    threads: Threads = 1,
    trusted: TrustedKeys = None,
) -> None:
    """Answers the apps of this device over HTTP, on the loopback interface only."""
    from edge.local import LocalServer

    runner, answered = _open(bundle, threads, trusted)
    server = LocalServer(runner, port, answered)
    typer.echo(f"answers at {server.url}")
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not here: `stop` waits for `run`, which this very thread is in.
        signal.signal(number, lambda *_: threading.Thread(target=server.stop).start())
    server.run()


@app.command(epilog=example("edge bench models/movie-sentiment/edge/1-dynamic_int8.zip"))
def bench(
    bundles: Annotated[list[Path], typer.Argument(help="One or several edge bundles.")],
    threads: Annotated[str, typer.Option(help="Numbers of CPU threads, with commas.")] = "1,2",
    runs: Annotated[int, typer.Option(min=50, help="Of each signature.")] = 50,
    plot: Annotated[Path | None, typer.Option(help="Draw them into this SVG file.")] = None,
    as_json: Json = False,
) -> None:
    """Measures time, memory and size of bundles on this device."""
    from edge.bench import chart, cpu
    from edge.bench.measure import measure

    counts = _counts(threads)
    found = [measure(path, counts, runs) for path in bundles]
    if plot:
        plot.write_text(chart.draw(found))
    machine = cpu.find()
    if as_json:
        typer.echo(
            json.dumps({"cpu": asdict(machine), "bundles": [asdict(each) for each in found]})
        )
        return
    typer.echo(f"{machine.name}, {machine.cores} cores, {' '.join(machine.flags)}")
    for each in found:
        typer.echo(_table(asdict(each)))


def _open(
    bundle: Path, threads: int, trusted: list[Path] | None
) -> tuple[EdgeRunner, Callable[[], None]]:
    """A runner, and what to call when it has answered."""
    from edge.update.device import STATE, Device

    keys = Trusted.read(trusted) if trusted else None
    if not (bundle / STATE).exists():
        return EdgeRunner.open(bundle, threads, keys), lambda: None
    if keys is None:
        raise typer.BadParameter(f"{bundle} is a device's folder: give its --trusted keys")
    device = Device(bundle, keys)
    runner = device.start(threads)
    unconfirmed = [device.confirm]
    return runner, lambda: unconfirmed.pop()() if unconfirmed else None


def _asking(runner: EdgeRunner, settings: dict[str, Any]) -> Ask:
    """How a runner's model is asked: to write with some settings, or to classify."""
    if runner.manifest.generation is None:
        if settings:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in settings)
            raise typer.BadParameter(f"{runner.manifest.name} writes no text: leave out {options}")
        return lambda shown, raw, as_json: iter([line(shown, runner.predict(raw), as_json)])

    def write(shown: str, raw: Raw, as_json: bool) -> Iterator[str]:
        if not isinstance(raw, str):
            raise InputError("image", "is not what this model takes; send `text`")
        pieces = runner.generate(raw, **settings)
        if not as_json:
            return pieces
        return iter([json.dumps({"input": shown, "text": "".join(pieces)})])

    return write


def _answer_line(given: str, ask: Ask) -> str:
    """The answer to a line of standard input; one that is wrong has its error as the answer."""
    try:
        text = json.loads(given)["text"]
        return "".join(ask(text, text, True))
    except (ValueError, KeyError, TypeError):
        return json.dumps({"error": 'line: must be {"text": "…"}'})
    except InputError as error:
        return json.dumps({"error": str(error)})


def _counts(threads: str) -> list[int]:
    try:
        counts = [int(part) for part in threads.split(",")]
    except ValueError:
        counts = []
    if not counts or not all(1 <= count <= 64 for count in counts):
        raise typer.BadParameter(f"--threads {threads!r} must be numbers of 1 to 64, such as 1,2")
    return counts


def _table(found: dict[str, Any]) -> str:
    title = (
        f"{found['model']} version {found['version']} {found['profile']}, {found['runtime']}: "
        f"{found['file_bytes'] / 1e6:.1f} MB, loaded in {found['load_ms']:.0f} ms, "
        f"peak memory {found['peak_rss_bytes'] / 1e6:.0f} MB, {found['operators']} operators, "
        f"{found['delegated_parts']} delegated parts"
    )
    rows = [
        f"  {each['signature']:<12} {each['threads']} threads  "
        f"p50 {each['p50_ms']:8.2f} ms  p95 {each['p95_ms']:8.2f} ms"
        for each in found["timings"]
    ]
    return "\n".join([title, *rows])
