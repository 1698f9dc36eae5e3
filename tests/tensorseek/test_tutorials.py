"""Law: each tutorial works as it is written, block by block, in a folder of its own.

`$ ` lines of a console block are commands, the lines below them what they print, `…` for anything;
python blocks run in one namespace; a block with a file's name after its language becomes that file.
What needs a device, a cluster or minutes stands in sh blocks, which test_readme.py parses.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import CliRunner

from serving.backend.config import BackendConfig
from serving.backend.server import Backend
from tensorseek import cli, stack
from tensorseek.stack import Ports

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = sorted(DOCS.glob("tutorial-*.md"))
MODEL = "movie-sentiment"
PROGRAMS = {"curl", "cat", "ls", "cp", "rm", "mkdir"}
MOST_LINES = 80
ROOT: Any = typer.main.get_command(cli.app)


@dataclass(frozen=True)
class Served:
    """A model repository with a gateway over it."""

    models: Path
    ports: Ports

    def real(self, text: str) -> str:
        """What a tutorial says, with this gateway's ports and this model's profile."""
        for port, own in ((9000, self.ports.gateway), (9001, self.ports.http)):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
        return text.replace("1-dynamic_int8", "1-float32")

    @property
    def defaults(self) -> dict[str, Any]:
        """Every command's own, but for the gateway's address."""
        return _with_gateway(ROOT, f"127.0.0.1:{self.ports.gateway}")


def _with_gateway(group: Any, address: str) -> dict[str, Any]:
    return {"gateway": address} | {
        name: _with_gateway(command, address)
        for name, command in getattr(group, "commands", {}).items()
    }


@pytest.fixture
def served(
    tmp_path: Path,
    publish_tiny: Any,
    publish_tiny_edge: Any,
    tiny_data: Path,
    tiny_base: Path,
) -> Iterator[Served]:
    """The tutorial's folder: models, data and an encoder; with a backend and a gateway."""
    models = tmp_path / "models"
    publish_tiny_edge(publish_tiny(models, MODEL))
    shutil.copytree(tiny_data, tmp_path / "data" / MODEL)
    shutil.copytree(tiny_base, tmp_path / "encoder")
    ports = stack.free_ports()
    gateway = stack.gateway(models, ports, tmp_path / "logs", needs_model=True)
    with Backend(BackendConfig(models=models, port=ports.backend)), stack.running([gateway]):
        stack.wait_ready([gateway])
        yield Served(models, ports)


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Puts back what a command changes of its process: standard error and the signals."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    error = os.dup(2)
    try:
        yield
    finally:
        os.dup2(error, 2)
        os.close(error)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@dataclass
class Reader:
    """Does what a tutorial says."""

    served: Served
    check_parses: Callable[[list[str]], None]
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, kind: str, name: str, content: str) -> None:
        content = self.served.real(content)
        if name:
            Path(name).write_text(content)
        elif kind == "console":
            for command, shown in steps(content):
                self._check(command, shown)
        elif kind == "python":
            exec(compile(content, "tutorial", "exec"), self.names)  # noqa: S102

    def _check(self, command: str, shown: list[str]) -> None:
        comment = re.search(r"  # exit code (\d+)$", command)
        expected = int(comment[1]) if comment else 0
        program, *arguments = shlex.split(command, comments=True)
        if arguments[-1:] == ["&"]:
            self.check_parses(arguments[:-1])
            return
        printed, code = self._run(program, arguments)
        assert code == expected, f"{command}: ended with {code}:\n{printed}"
        lines = iter(line.rstrip() for line in printed.splitlines())
        for line in shown:
            pattern = re.sub(r"([\[*?])", r"[\1]", line.rstrip()).replace("…", "*")
            assert any(fnmatch.fnmatchcase(each, pattern) for each in lines), (
                f"{command}: prints no {line!r}, or not there:\n{printed}"
            )

    def _run(self, program: str, arguments: list[str]) -> tuple[str, int]:
        if program == "tensorseek":
            with as_it_was():
                done = CliRunner().invoke(ROOT, arguments, default_map=self.served.defaults)
            if done.exception is None or isinstance(done.exception, SystemExit):
                return done.output, done.exit_code
            line, code = cli.describe(done.exception)  # type: ignore[arg-type]
            return f"{done.output}tensorseek: {line}\n", code
        assert program in PROGRAMS, f"{program} is no program that a tutorial may run"
        ended = subprocess.run(
            [program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return ended.stdout, ended.returncode


def blocks(path: Path) -> Iterator[tuple[str, str, str]]:
    """Language, file name if it is to be one, and content."""
    text = path.read_text()
    for found in re.finditer(r"^```(\w+) ?(\S*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield found[1], found[2], found[3]


def steps(content: str) -> Iterator[tuple[str, list[str]]]:
    """Each command with the lines that it is said to print."""
    for part in re.split(r"^\$ ", content.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield command, [line for line in shown if line.strip() not in {"", "…"}]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_works(
    path: Path,
    served: Served,
    check_parses: Callable[[list[str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(served.models.parent)
    reader = Reader(served, check_parses)
    for kind, name, content in blocks(path):
        with contextlib.redirect_stdout(io.StringIO()):
            reader.follow(kind, name, content)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_short_and_begins_with_what_it_is_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= MOST_LINES
    assert lines[0].startswith("# ")


def test_what_the_product_tutorial_has_a_person_press_is_on_the_page() -> None:
    demo = DOCS.parent / "tensorseek" / "demo"
    page = "".join(path.read_text() for path in demo.glob("*.py"))
    names = re.findall(r"\*\*(.+?)\*\*", (DOCS / "tutorial-product.md").read_text())
    assert names
    for name in set(names) - {"Use via API"}:  # Gradio's own, at the foot
        assert f'"{name}"' in page, name
