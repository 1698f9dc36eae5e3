"""The whole local stack, as `tensorseek up` starts it, over one tiny model."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from tensorseek import cli, stack
from tensorseek.stack import Ports


@pytest.fixture(scope="session")
def check_parses() -> Callable[[list[str]], None]:
    """Raises click's usage error unless the command line takes the arguments."""

    def check(arguments: list[str]) -> None:
        command: Any = typer.main.get_command(cli.app).commands[arguments.pop(0)]
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command = command.commands[arguments.pop(0)]
        assert getattr(command, "invoke_without_command", True), "names no command"
        assert command.make_context("tensorseek", arguments).params

    return check


@dataclass(frozen=True)
class Up:
    """A running `tensorseek up`."""

    process: subprocess.Popen[str]
    ports: Ports
    models: Path
    printed: list[str]


@contextmanager
def start(models: Path, logs: Path) -> Iterator[Up]:
    """Starts `tensorseek up` on free ports and waits until it has printed its addresses."""
    ports = stack.free_ports()
    command = [sys.executable, "-m", "tensorseek.cli", "up", "--models", str(models)]
    command += ["--logs", str(logs)]
    for name, port in vars(ports).items():
        command += [f"--{name}-port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = [process.stdout.readline() for _ in range(3)]
            yield Up(process, ports, models, printed)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="session")
def up(
    tmp_path_factory: pytest.TempPathFactory, publish_tiny: Any, publish_tiny_edge: Any
) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    publish_tiny_edge(publish_tiny(folder / "models"))
    with start(folder / "models", folder / "logs") as running:
        yield running


@pytest.fixture(scope="session")
def start_up() -> Callable[..., Any]:
    return start
