"""`tensorseek`: the command line.

Exit codes: 0 done; 1 failed, with one line on standard error (`--debug` for the traceback);
2 the command line is wrong; 3 a quality gate refused; 75 another job is at work, try later.
"""

from __future__ import annotations

import sys
import traceback

import typer

from tensorseek.commands import (
    data,
    doctor,
    edge,
    evaluate,
    export,
    generate,
    models,
    predict,
    refresh,
    serve,
    train,
)

_OURS = ("bundle", "edge", "finetune", "serving", "tensorseek")
_CODES = {"GateRefused": 3, "LeaseHeld": 75}  # sysexits.h: EX_TEMPFAIL
_EXTRAS = {  # top-level module → the extra that brings it
    "PIL": "finetune",
    "ai_edge_litert": "backend",
    "aiohttp": "gateway",
    "gradio": "demo",
    "grpc": "gateway",
    "grpc_health": "gateway",
    "grpc_reflection": "gateway",
    "jinja2": "finetune",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "packaging": "finetune",
    "pydantic": "finetune",
    "ray": "ray",
    "tensorflow": "finetune",
    "tensorflow_serving": "backend",
    "tf2onnx": "onnx",
    "tf_keras": "finetune",
    "transformers": "finetune",
    "yaml": "finetune",
}

app = typer.Typer(
    name="tensorseek",
    help="Fine-tune, quantize, serve and run transformers in TensorFlow.",
    epilog="Example: tensorseek quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (
    train.app,
    refresh.app,
    doctor.app,
    evaluate.app,
    export.app,
    models.app,
    serve.app,
    predict.app,
    generate.app,
):
    app.registered_commands += group.registered_commands
    app.registered_groups += group.registered_groups
app.add_typer(data.app, name="data")
app.add_typer(edge.app, name="edge")


@app.callback()
def _options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """`main` reads --debug itself, since an error may come before typer has read it."""


def main() -> None:
    """Runs the command line and exits."""
    try:
        app()
    except Exception as error:  # noqa: BLE001 (the last place where one can be told)
        if "--debug" in sys.argv:
            traceback.print_exc()
        line, code = describe(error)
        print(f"tensorseek: {line}", file=sys.stderr)
        sys.exit(code)


def describe(error: Exception) -> tuple[str, int]:
    """One line for a person, and the exit code."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = _EXTRAS.get(error.name.split(".")[0])
        if extra:
            return f"{error.name} is not installed: pip install 'tensorseek[{extra}]'", 1
    if type(error).__module__.split(".")[0] in _OURS:
        return str(error), _CODES.get(type(error).__name__, 1)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1
    kind = type(error).__name__
    return f"unexpected {kind}: {error}. Run again with --debug for the traceback.", 1


if __name__ == "__main__":
    main()
