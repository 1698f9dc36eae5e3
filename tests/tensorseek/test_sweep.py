"""Laws of `train --sweep`: a table with the best first, a failed trial a row, nothing run twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

Run = subprocess.CompletedProcess[str]


def sweep(folder: Path, rates: list[float], *options: str, metric: str = "accuracy") -> Run:
    content = {"metric": metric, "grid": {"optimizer.learning_rate": rates}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "tensorseek.cli", "train", str(folder / "recipe.yaml")]
    command += ["--sweep", str(folder / "sweep.yaml"), "--runs", str(folder / "runs"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture(scope="module")
def folder(tiny_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep")
    lines = tiny_recipe().data.train.read_text().splitlines(keepends=True)
    short = path / "short.jsonl"  # texts of one bucket
    short.write_text("".join([line for line in lines if line.count(" ") <= 8][:64]))
    splits = [f"data.{name}={short}" for name in ("train", "dev")]
    (path / "recipe.yaml").write_text(tiny_recipe("schedule.epochs=1", *splits).to_yaml())
    return path


def test_trials_are_ranked_once_and_never_run_again(folder: Path) -> None:
    first = sweep(folder, [1e38, 5e-3], "--json")
    answer = json.loads(first.stdout)
    best, failed = answer["trials"]
    assert (first.returncode, answer["metric"]) == (0, "accuracy")
    assert answer["best"] == ["optimizer.learning_rate=0.005"]
    assert best["result"]["figures"]["accuracy"] == best["result"]["figures"]["score"]
    assert failed["result"] is None
    assert re.match("(loss is|gradients are not) .*lower optimizer.learning_rate", failed["error"])
    written = json.loads((Path(answer["folder"]) / "results.json").read_text())
    assert sorted(row["trial"] for row in written) == sorted([best["trial"], failed["trial"]])

    path = Path(answer["folder"]) / best["trial"] / "result.json"
    before = path.stat().st_mtime_ns
    again = sweep(folder, [5e-3], metric="ece")  # another figure of the same trial
    assert path.stat().st_mtime_ns == before
    assert f"{best['result']['figures']['ece']:.4f}" in again.stdout
    line = f"tensorseek train {folder}/recipe.yaml --set optimizer.learning_rate=0.005"
    assert again.stdout.splitlines()[-1] == line


def test_a_wrong_sweep_is_one_line(folder: Path) -> None:
    done = sweep(folder, [])
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"tensorseek: {folder}/sweep.yaml: grid.optimizer.learning_rate: ")
