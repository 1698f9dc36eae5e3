"""Laws of labelled inputs: each is what a caller would send, with its label, in order."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from bundle.manifest import ImagePreprocess, TextPreprocess
from bundle.preprocess import ImagePreprocessor, TextPreprocessor
from finetune import labelled
from finetune.data import jsonl
from finetune.errors import DataError


def test_texts_keep_their_order_and_labels(
    tokenizer_json: bytes, tiny_spec: TextPreprocess, tmp_path: Path
) -> None:
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    path = tmp_path / "test.jsonl"
    jsonl.write(path, [("a film", "b"), ("a plot", "a")])
    data = labelled.read(path, ("a", "b"), preprocessor, {})
    assert [data.raw(index) for index in range(len(data))] == ["a film", "a plot"]
    assert data.labels.tolist() == [1, 0]
    assert data.show(1).content == "a plot"
    path.write_text('{"text": "' + "x" * 1001 + '", "label": "a"}')
    with pytest.raises(DataError, match="line 1: text: has 1001 characters"):
        labelled.read(path, ("a", "b"), preprocessor, {})


def test_columns_have_the_names_that_the_recipe_gives_them(
    tokenizer_json: bytes, tiny_spec: TextPreprocess, tmp_path: Path
) -> None:
    path = tmp_path / "test.csv"
    path.write_text("said,meant\na film,a\n")
    columns = {"text_column": "said", "label_column": "meant", "batch_size": 8}
    preprocessor = TextPreprocessor(tokenizer_json, tiny_spec)
    data = labelled.read(path, ("a", "b"), preprocessor, columns)
    assert (data.raw(0), data.labels.tolist()) == ("a film", [0])


def test_pictures_are_sent_as_they_are_and_shown_small(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (300, 200)).save(tmp_path / label / "1.png")
    preprocessor = ImagePreprocessor(ImagePreprocess(height=8, width=8))
    data = labelled.read(tmp_path, ("dog", "cat"), preprocessor, {})
    path = tmp_path / "cat" / "1.png"
    assert (data.raw(0), data.labels.tolist()) == (path.read_bytes(), [1, 0])
    shown = data.show(0)
    assert shown.content == str(path)
    assert shown.picture is not None
    with Image.open(io.BytesIO(shown.picture)) as image:
        assert image.size == (96, 64)
