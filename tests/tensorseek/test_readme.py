"""Law: what the documents tell a person to type works."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.backend import flags

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)


def blocks(name: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL
    )


def shell_lines() -> Iterator[str]:
    for name in DOCUMENTS:
        for block in blocks(name, "sh"):
            yield from block.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("line", list(shell_lines()))
def test_a_shell_line_is_a_target_a_command_or_an_extra(
    line: str, check_parses: Callable[[list[str]], None]
) -> None:
    words = shlex.split(line.removesuffix("&"), comments=True)
    settings = itertools.takewhile(lambda word: re.match(r"[A-Z_]+=", word), words)
    program, *arguments = words[len(list(settings)) :]
    if program == "make":
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, timeout=60)
    elif program == ".venv/bin/tensorseek":
        check_parses(arguments)
    elif program in {".venv/bin/tensorseek-model-server", "tensorflow_model_server"}:
        flags.parser(program, "").parse_args(arguments)
    elif program == ".venv/bin/python":
        (path,) = (each for each in arguments if each.startswith("tests/"))
        assert (ROOT / path).exists()
    else:
        assert (program, arguments[0]) == ("pip", "install")
        (extra,) = re.findall(r"^\.\[([a-z-]+)\]$", arguments[1])
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extra in project["optional-dependencies"]


@pytest.mark.parametrize("block", blocks("README.md", "python"))
def test_a_python_block_runs(block: str, up: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = next((up.models / "tiny" / "edge").iterdir())
    code = re.sub(r"models/movie-sentiment/edge/[\w.-]+", str(bundle), block)
    code = code.replace("127.0.0.1:9000", f"127.0.0.1:{up.ports.gateway}")
    exec(compile(code.replace("movie-sentiment", "tiny"), "README.md", "exec"), {})  # noqa: S102
    assert "LabelScore(label='" in capsys.readouterr().out


def test_every_linked_file_is_there() -> None:
    for name in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_every_folder_of_the_map_is_there() -> None:
    folders = re.findall(r"^\| `([a-z]+)/` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(folders) == 9
    for folder in folders:
        assert (ROOT / folder).is_dir()


def test_every_benchmark_can_be_run_by_name() -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        if 'if __name__ == "__main__"' not in path.read_text():
            continue
        target = f"bench-{path.stem.replace('_', '-')}"
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert f"-m benchmarks.{path.stem}" in done.stdout
