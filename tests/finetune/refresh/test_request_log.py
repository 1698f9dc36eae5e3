"""Laws of the request log as data: labelled lines of this model are examples, others are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import DataError
from finetune.recipe import Recipe
from finetune.refresh import request_log


def line(text: str, **others: Any) -> str:
    row = {"id": "1", "time": "2026-11-25T00:00:00", "model": "tiny", "version": 1}
    return json.dumps({**row, "labels": ["positive"], "input": text, **others})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{each}\n" for each in lines))
    return path


def test_only_labelled_lines_of_this_model_are_examples(tmp_path: Path, recipe: Recipe) -> None:
    path = write(
        tmp_path / "requests.jsonl",
        line("a fine film", label="positive"),
        line("a dull plot", label=0),
        line("nobody has looked at this"),
        line("of another model", model="other", label="positive"),
        json.dumps({"model": "tiny", "version": 1, "label": "positive"}),  # without its payload
    )
    found = request_log.read(path, recipe)
    assert [(item.content, item.label) for item in found.items] == [
        ("a fine film", 1),
        ("a dull plot", 0),
    ]
    assert found.unlabelled == 1


def test_a_line_that_is_still_written_waits(tmp_path: Path, recipe: Recipe) -> None:
    path = write(tmp_path / "requests.jsonl", line("a fine film", label="positive"))
    with path.open("a") as file:
        file.write(line("cut o", label="positive")[:40])
    assert len(request_log.read(path, recipe).items) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        (line("a film", label="good"), "`label` is 'good'"),
        ("[" * 100_000, "not JSON"),
        (line("x" * (1 << 20), label=1), "the limit is"),
    ],
)
def test_a_line_that_can_not_be_used_is_named(
    tmp_path: Path, recipe: Recipe, wrong: str, said: str
) -> None:
    path = write(tmp_path / "requests.jsonl", line("a fine film", label="positive"), wrong)
    with pytest.raises(DataError, match=f"line 2: .*{said}"):
        request_log.read(path, recipe)
