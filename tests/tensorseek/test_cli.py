"""Laws of the command line: help that runs, one line an error, exit codes a script can trust."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bundle.errors import IntegrityError
from finetune.errors import GateRefused
from tensorseek import cli

ROOT = typer.main.get_command(cli.app)
RECIPES = Path(__file__).parents[2] / "finetune" / "recipes"


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tensorseek.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_help_ends_in_an_example_that_parses(
    name: str, command: Any, check_parses: Callable[[list[str]], None]
) -> None:
    assert command.help
    assert command.epilog.startswith(f"Example: tensorseek {name}")
    check_parses(shlex.split(command.epilog.removeprefix("Example: tensorseek ")))


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["train"], ["serve", "backend", "--port", "x"]]
)
def test_a_wrong_command_line_exits_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr
    assert done.stdout == ""


def test_an_unknown_recipe_key_names_the_nearest_valid_one(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((RECIPES / "movie-sentiment.yaml").read_text() + "optimiser: {}\n")
    done = run("train", str(recipe))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "unknown key 'optimiser'; did you mean 'optimizer'?" in line
    assert str(recipe) in line


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    done = run("--debug", "train", str(tmp_path / "missing.yaml"))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tensorseek: ")


def test_a_refused_gate_exits_3() -> None:
    assert cli.describe(GateRefused("accuracy 0.5 is under 0.8")) == (
        "accuracy 0.5 is under 0.8",
        3,
    )
    assert cli.describe(IntegrityError("x: corrupted")) == ("x: corrupted", 1)
    missing = cli.describe(ModuleNotFoundError("no", name="gradio"))
    assert missing == ("gradio is not installed: pip install 'tensorseek[demo]'", 1)
    assert cli.describe(ZeroDivisionError("oops"))[0].startswith("unexpected ZeroDivisionError")


def test_models_lists_what_is_served(tmp_path: Path, publish_tiny: Any) -> None:
    assert run("models", "--models", str(tmp_path)).stdout.startswith("no models")
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, seed=1)
    assert run("rollback", "tiny", "--models", str(tmp_path)).stdout == "tiny: serves version 1\n"
    (row,) = json.loads(run("models", "--models", str(tmp_path), "--json").stdout)
    assert row == {
        "name": "tiny",
        "versions": [1, 2],
        "serving": 1,
        "pinned": True,
        "trial": None,
        "withdrawn": [],
        "edge": [],
    }
    assert run("pin", "tiny", "--models", str(tmp_path)).stdout == "tiny: serves version 2\n"
    refused = run("rollback", "other", "--models", str(tmp_path))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "no model 'other'; it has: tiny" in refused.stderr


def test_edge_run_answers_and_refuses(
    tmp_path: Path, publish_tiny: Any, publish_tiny_edge: Any, tiny_answer: Any
) -> None:
    bundle = publish_tiny_edge(publish_tiny(tmp_path))
    text = "a very good film"
    done = run("edge", "run", str(bundle), text, "--json")
    answer = json.loads(done.stdout)
    assert answer["label"] == ("negative", "positive")[tiny_answer(text).argmax()]
    assert sum(answer["scores"].values()) == pytest.approx(1)
    empty = run("edge", "run", str(bundle), " ")
    assert empty.returncode == 1
    assert "text: is empty" in empty.stderr.splitlines()[-1]
    content = bundle.read_bytes()
    bundle.write_bytes(content.replace(b"TFL3", b"TFL9"))
    damaged = run("edge", "verify", str(bundle))
    assert damaged.returncode == 1
    expected = rf"{bundle}:model\.tflite: corrupted; SHA-256 expected: \w{{64}}, found: \w{{64}}"
    assert re.search(expected, damaged.stderr)
