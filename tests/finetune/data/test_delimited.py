"""Laws of CSV and TSV: the same checks as JSON lines, and the line on which a row begins."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.errors import InputError
from finetune.data import delimited
from finetune.errors import DataError

LABELS = ("negative", "positive")
HEAD = b"text,label\n"
GOOD = b"a fine film,positive\n"
shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.csv"


def test_a_label_is_a_name_or_its_index_and_other_columns_are_ignored(path: Path) -> None:
    path.write_bytes(b"label,id,text\r\npositive,7,a fine film\r\n0,8,bad\r\n1,9,x")
    examples = delimited.read(path, LABELS)
    assert examples.texts == ("a fine film", "bad", "x")
    assert examples.labels == (1, 0, 1)


def test_columns_can_have_other_names(path: Path) -> None:
    path.write_bytes(b"query,category\nhello,positive\n")
    examples = delimited.read(path, LABELS, text_column="query", label_column="category")
    assert examples.texts == ("hello",)


def test_tsv_is_divided_by_tabs(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_bytes(b"text\tlabel\na film, fine\tpositive\n")
    assert delimited.read(path, LABELS).texts == ("a film, fine",)


def test_a_spreadsheets_mark_is_no_part_of_the_header(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + HEAD + GOOD)
    assert len(delimited.read(path, LABELS)) == 1


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
rows = st.lists(st.tuples(texts, st.sampled_from(LABELS)), min_size=1, max_size=8)


@given(rows, st.sampled_from([".csv", ".tsv"]))
@shared_folder
def test_reads_back_what_the_csv_module_wrote(
    tmp_path: Path, rows: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path / f"train{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimited.DELIMITERS[suffix])
        writer.writerows([("text", "label"), *rows])
    examples = delimited.read(path, LABELS)
    assert list(examples.texts) == [text for text, _ in rows]
    assert [LABELS[label] for label in examples.labels] == [label for _, label in rows]


@given(st.lists(st.integers(0, 4), max_size=6))
@shared_folder
def test_line_numbers_count_the_breaks_inside_quotes(path: Path, breaks: list[int]) -> None:
    rows = [f'"a{chr(10) * count}b",positive\n' for count in breaks]
    path.write_text("text,label\n" + "".join(rows) + "x,bad\n")
    line = 2 + sum(count + 1 for count in breaks)
    with pytest.raises(DataError, match=rf"train\.csv, line {line}: `label` is 'bad'"):
        delimited.read(path, LABELS)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"", "is blank; delete it"),
        (b"a fine film", "has 1 fields, the header 2; fill the row"),
        (b"a film, fine,positive", "has 3 fields, the header 2; quote fields that hold"),
        (b",positive", "`text` must be a non-empty string, not ''"),
        (b'" \n ",positive', "`text` must be a non-empty string"),
        (b"a,neutral", r"`label` is 'neutral'.*\['negative', 'positive'\]"),
        (b"a,2", "`label` is 2"),
        (b"a,-1", "`label` is '-1'"),
        (b"a,", "`label` is ''"),
        (b"caf\xe9,positive", "not UTF-8 at byte 3"),
        (b'"a"b,positive', "',' expected after '\"'"),
        (b'"a,positive', "unexpected end of data"),
        (b'"' + b"a" * 1_000_001 + b'",positive', "field larger than field limit"),
    ],
)
def test_a_row_that_cant_be_used_is_named(path: Path, row: bytes, reason: str) -> None:
    path.write_bytes(HEAD + GOOD + row + b"\n" + GOOD.replace(b"\n", b""))
    with pytest.raises(DataError, match=rf"train\.csv, line 3: {reason}") as caught:
        delimited.read(path, LABELS)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"train\.csv: is empty"),
        (HEAD, r"train\.csv: has no rows"),
        (b"\n" + GOOD, r"line 1: no column 'text' in the header \[\]"),
        (b"text,category\na,b\n", r"line 1: no column 'label' in .*\['text', 'category'\]"),
        (b"text,text,label\na,b,c\n", "line 1: more than one column 'text'"),
    ],
)
def test_a_file_without_a_table_is_named(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        delimited.read(path, LABELS)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv: No such file"):
        delimited.read(path, LABELS)


def test_a_text_that_the_model_cant_take_is_named(path: Path) -> None:
    def check(text: str) -> None:
        if len(text) > 5:
            raise InputError("text", "is too long; shorten it")

    path.write_bytes(HEAD + b"ok,positive\n" + GOOD)
    with pytest.raises(DataError, match="line 3: text: is too long; shorten it"):
        delimited.read(path, LABELS, check)


def test_the_limit_of_other_readers_is_left_alone(path: Path) -> None:
    before = csv.field_size_limit()
    path.write_bytes(HEAD + b"b,bad\n")
    with pytest.raises(DataError):
        delimited.read(path, LABELS)
    assert csv.field_size_limit() == before


def test_banking77_reads(real_data: Path) -> None:
    path = real_data / "banking77" / "train.csv"
    rows = list(delimited.rows(path, text_column="text", label_column="category"))
    labels = sorted({label for _, _, label in rows})
    assert len(delimited.read(path, labels, label_column="category")) == 10_003
    assert len(labels) == 77
