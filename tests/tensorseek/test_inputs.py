"""Laws of what `predict` and `edge run` share: texts or pictures, never both, in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from bundle.postprocess import LabelScore
from tensorseek.commands.inputs import line, read_inputs

LABELS = [LabelScore("good", 0.75), LabelScore("bad", 0.25)]


def test_texts_stay_as_they_are_even_twice() -> None:
    assert read_inputs(["a", "b", "a"], None) == [("a", "a"), ("b", "b"), ("a", "a")]


def test_pictures_are_read_and_shown_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG")
    assert read_inputs([], [path]) == [(str(path), b"\x89PNG")]


@pytest.mark.parametrize(("texts", "images"), [(None, None), ([], []), (["a"], [Path("b.png")])])
def test_nothing_or_both_is_a_wrong_command_line(
    texts: list[str] | None, images: list[Path] | None
) -> None:
    with pytest.raises(typer.BadParameter, match="either texts, or pictures with --image"):
        read_inputs(texts, images)


def test_a_line_is_for_a_person_or_a_script() -> None:
    assert line("a", LABELS, as_json=False) == "good 0.7500  bad 0.2500"
    assert json.loads(line("a", LABELS, as_json=True, version=3)) == {
        "input": "a",
        "label": "good",
        "scores": {"good": 0.75, "bad": 0.25},
        "version": 3,
    }
