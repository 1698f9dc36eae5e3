"""Laws of the request log as data: labelled lines of this model are examples, others are not."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from finetune.data.images import Picture
from finetune.errors import DataError
from finetune.recipe import Recipe
from finetune.refresh import items, request_log


def line(text: str, **others: Any) -> str:
    row = {"id": "1", "time": "2026-11-25T00:00:00", "model": "tiny", "version": 1}
    return json.dumps({**row, "labels": ["positive"], "input": text, **others})


def png(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


def picture_line(encoded: bytes, **others: Any) -> str:
    return json.dumps(
        {"model": "tiny", "input_base64": base64.b64encode(encoded).decode(), **others}
    )


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
        (line("x" * (8 << 20), label=1), "the limit is"),
    ],
)
def test_a_line_that_can_not_be_used_is_named(
    tmp_path: Path, recipe: Recipe, wrong: str, said: str
) -> None:
    path = write(tmp_path / "requests.jsonl", line("a fine film", label="positive"), wrong)
    with pytest.raises(DataError, match=f"line 2: .*{said}"):
        request_log.read(path, recipe)


def test_labelled_pictures_are_examples_too(tmp_path: Path, recipe: Recipe) -> None:
    pictures = recipe.model_copy(update={"task": "image-classification"})
    encoded = png(red=200)
    path = write(
        tmp_path / "requests.jsonl",
        picture_line(encoded, label="positive"),
        picture_line(png(red=10)),
        line("a text", label="positive"),
    )
    found = request_log.read(path, pictures)
    assert [(item.content, item.label) for item in found.items] == [(encoded, 1)]
    assert found.unlabelled == 1
    items.write(tmp_path / "new", found.items, pictures)
    (again,) = items.read(tmp_path / "new", pictures)
    assert (again.key, again.label) == (found.items[0].key, 1)
    assert isinstance(again.content, Picture)
    assert again.content.read() == encoded


@pytest.mark.parametrize("given", ["####", base64.b64encode(png(red=1)[:40]).decode()])
def test_a_picture_that_is_none_is_named(tmp_path: Path, recipe: Recipe, given: str) -> None:
    pictures = recipe.model_copy(update={"task": "image-classification"})
    row = json.dumps({"model": "tiny", "input_base64": given, "label": 0})
    with pytest.raises(DataError, match=r"requests\.jsonl, line 1: "):
        request_log.read(write(tmp_path / "requests.jsonl", row), pictures)
