"""Law: packages meet only in the bundle and the protos, and TensorFlow stays where it belongs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# package → what of ours it may import
ALLOWED = {
    "bundle": set(),
    "protos": set(),
    "finetune": {"bundle"},
    "serving": {"bundle", "protos"},
    "edge": {"bundle"},
    "tensorseek": {"bundle", "protos", "finetune", "serving", "edge"},
}
HEAVY = {"tensorflow", "tensorflow_serving", "tf_keras", "keras", "transformers", "torch"}
MAY_BE_HEAVY = ("finetune/", "serving/backend/")
TENSORFLOW_IN_SERVING = "serving/backend/loader.py"


def sources() -> list[Path]:
    files = [path for package in ALLOWED for path in (ROOT / package).rglob("*.py")]
    return [path for path in files if "_pb2" not in path.name]


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for module in imports(path):
            top = module.split(".")[0]
            allowed = top == package or top not in ALLOWED or top in ALLOWED[package]
            assert allowed, f"{path.relative_to(ROOT)} imports {module}"


def test_only_training_and_the_backend_know_tensorflow() -> None:
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        heavy = {module.split(".")[0] for module in imports(path)} & HEAVY
        assert not heavy or name.startswith(MAY_BE_HEAVY), f"{name} imports {heavy}"
        if name.startswith("serving/") and "tensorflow" in heavy:
            assert name == TENSORFLOW_IN_SERVING


@pytest.mark.parametrize(
    "module",
    ["bundle.repository", "edge.runner", "serving.gateway.server", "serving.client"],
)
def test_runs_where_tensorflow_is_not_installed(module: str) -> None:
    """Catches what the table can't: an import of an import."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in sorted(HEAVY))
    code = f"import sys; {blocked}import {module}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_there_is_no_room_for_odds_and_ends() -> None:
    names = {path.stem for path in sources()}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_modules_and_functions_stay_readable() -> None:
    for path in sources():
        text = path.read_text()
        assert text.count("\n") <= 500, f"{path}: over 500 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                assert size <= 60, f"{path}:{node.lineno} {node.name}: {size} lines"
