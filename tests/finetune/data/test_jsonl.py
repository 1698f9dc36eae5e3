"""Laws of the data files: a line that can't be used is one error with file, line and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from finetune.data import jsonl
from finetune.errors import DataError

LABELS = ("negative", "positive")
GOOD = b'{"text": "a fine film", "label": "positive"}\n'
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.jsonl"


def test_a_label_is_a_name_or_its_index_and_other_keys_are_ignored(path: Path) -> None:
    path.write_bytes(GOOD + b'{"label": 0, "text": "bad", "id": 7}\r\n{"text":"x","label":1}')
    examples = jsonl.read(path, LABELS)
    assert examples.texts == ("a fine film", "bad", "x")
    assert examples.labels == (1, 0, 1)
    assert len(examples) == 3


# What JSON can hold; half a surrogate pair is no text, and `write` refuses it.
rows = st.tuples(
    st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), st.sampled_from(LABELS)
)


@given(st.lists(rows, min_size=1, max_size=8))
@shared_folder
def test_reads_back_what_was_written(path: Path, rows: list[tuple[str, str]]) -> None:
    jsonl.write(path, rows)
    examples = jsonl.read(path, LABELS)
    assert [
        (text, LABELS[label]) for text, label in zip(examples.texts, examples.labels, strict=True)
    ] == rows


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON: Expecting value at column 1"),
        (b"a fine film", "not JSON: Expecting value at column 1"),
        (b'{"text": "a"', "not JSON: Expecting ',' delimiter at column 13"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'{"text": "a", "label": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"text": "\xff", "label": 0}', "not UTF-8 at byte 10"),
        (b'["a", "positive"]', r"must be an object with `text` and `label`, not \["),
        (b"null", "must be an object with `text` and `label`, not null"),
        (b'{"text": "a"}', r"`label` is missing; it has \['text'\]"),
        (b'{"label": 1}', r"`text` is missing; it has \['label'\]"),
        (b'{"text": "", "label": 1}', "`text` must be a non-empty string, not ''"),
        (b'{"text": " \\n", "label": 1}', "`text` must be a non-empty string"),
        (b'{"text": 5, "label": 1}', "`text` must be a non-empty string, not 5"),
        (b'{"text": "a", "label": "neutral"}', r"`label` is 'neutral'.*\['negative', 'positive'\]"),
        (b'{"text": "a", "label": 2}', "`label` is 2"),
        (b'{"text": "a", "label": -1}', "`label` is -1"),
        (b'{"text": "a", "label": true}', "`label` is True"),
        (b'{"text": "a", "label": 1.0}', r"`label` is 1\.0"),
        (b'{"text": "a", "label": null}', "`label` is None"),
        (b'{"text": "a", "label": [1]}', r"`label` is \[1\]"),
    ],
)
def test_a_line_that_cant_be_used_is_named(path: Path, line: bytes, reason: str) -> None:
    path.write_bytes(GOOD + GOOD + line + b"\n" + GOOD)
    with pytest.raises(DataError, match=rf"train\.jsonl, line 3: {reason}") as caught:
        jsonl.read(path, LABELS)
    assert len(str(caught.value)) < 500


def test_only_the_first_wrong_line_is_told(path: Path) -> None:
    path.write_bytes(GOOD + b"{}\n" + b"[\n")
    with pytest.raises(DataError, match="line 2: `text` is missing"):
        jsonl.read(path, LABELS)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (json.dumps({"text": "x" * 1001, "label": 1}), "text: has 1001 characters, the limit is"),
        ('{"text": "a \\ud800", "label": 1}', "text: has half a surrogate pair"),
    ],
)
def test_a_text_that_the_model_could_not_be_asked_is_no_example(
    path: Path, tokenizer_json: bytes, tiny_spec: TextPreprocess, line: str, reason: str
) -> None:
    """What serving refuses, training must refuse too, and before it starts."""
    path.write_bytes(GOOD + line.encode())
    check = TextPreprocessor(tokenizer_json, tiny_spec).check
    with pytest.raises(DataError, match=rf"train\.jsonl, line 2: {reason}"):
        jsonl.read(path, LABELS, check)


def test_an_empty_or_missing_file_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: No such file or directory"):
        jsonl.read(path, LABELS)
    path.touch()
    with pytest.raises(DataError, match=r"train\.jsonl: is empty; it needs at least one line"):
        jsonl.read(path, LABELS)
    with pytest.raises(DataError, match="Is a directory"):
        jsonl.read(path.parent, LABELS)


@given(st.binary(max_size=80))
@shared_folder
def test_any_other_bytes_are_a_data_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.jsonl"):
        jsonl.read(path, LABELS)
