"""Laws of preprocessing: one text gives one answer, whoever asks, and never a crash."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.errors import InputError, ManifestError
from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor

PAD, UNK, CLS, SEP, A, THE, FILM = range(7)


@pytest.fixture(scope="module")
def preprocessor(tokenizer_json: bytes, tiny_spec: TextPreprocess) -> TextPreprocessor:
    return TextPreprocessor(tokenizer_json, tiny_spec)


@pytest.fixture(scope="module")
def vocabulary(tokenizer_json: bytes) -> int:
    from tokenizers import Tokenizer

    return int(Tokenizer.from_buffer(tokenizer_json).get_vocab_size())


def test_text_becomes_ids_and_mask_padded_to_a_bucket(preprocessor: TextPreprocessor) -> None:
    tensors = preprocessor(["The  FILM, unseen"])
    assert {name: values.dtype for name, values in tensors.items()} == {
        "input_ids": np.int32,
        "attention_mask": np.int32,
    }
    assert tensors["input_ids"][0, :3].tolist() == [CLS, THE, FILM]
    assert tensors["input_ids"][0, 4:].tolist() == [UNK, SEP, PAD, PAD]
    assert tensors["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("tokens", "bucket"), [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (17, 16), (999, 16)]
)
def test_the_smallest_bucket_that_holds_a_text(
    preprocessor: TextPreprocessor, tokens: int, bucket: int
) -> None:
    assert preprocessor.bucket(tokens) == bucket


@pytest.mark.parametrize(("words", "length"), [(1, 8), (6, 8), (7, 16), (14, 16)])
def test_the_longest_text_chooses_the_bucket_of_a_batch(
    preprocessor: TextPreprocessor, words: int, length: int
) -> None:
    tensors = preprocessor(["a", " ".join(["the"] * words)])
    assert tensors["input_ids"].shape == tensors["attention_mask"].shape == (2, length)
    assert tensors["attention_mask"].sum(axis=1).tolist() == [3, words + 2]


@pytest.mark.parametrize("others", [0, 1])
def test_a_longer_text_is_cut_at_the_last_bucket(
    preprocessor: TextPreprocessor, others: int
) -> None:
    """Alone as in a batch, and its closing token stays."""
    ids = preprocessor.encode([" ".join(["film"] * 40)] + ["a"] * others)[0]
    assert ids.tolist() == [CLS, *[FILM] * 14, SEP]


def test_padding_uses_the_id_of_the_manifest(tokenizer_json: bytes) -> None:
    spec = TextPreprocess(buckets=(6,), pad_id=9, max_characters=10)
    tensors = TextPreprocessor(tokenizer_json, spec)(["a"])
    assert tensors["input_ids"].tolist() == [[CLS, A, SEP, 9, 9, 9]]
    assert tensors["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0]]


def test_a_tokenizer_file_that_pads_or_cuts_by_itself_is_overruled(
    tokenizer_json: bytes, tiny_spec: TextPreprocess, preprocessor: TextPreprocessor
) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    tokenizer.enable_padding(length=128, pad_id=1)
    tokenizer.enable_truncation(4)
    other = TextPreprocessor(tokenizer.to_str().encode(), tiny_spec)
    texts = ["a very good film", "a"]
    for mine, its in zip(preprocessor.encode(texts), other.encode(texts), strict=True):
        assert mine.tolist() == its.tolist()


@given(st.lists(st.text(max_size=60), min_size=2, max_size=5))
def test_any_text_gives_ids_of_the_vocabulary_alone_as_in_a_batch(
    preprocessor: TextPreprocessor, vocabulary: int, texts: list[str]
) -> None:
    together = preprocessor.encode(texts)
    for text, ids in zip(texts, together, strict=True):
        (alone,) = preprocessor.encode([text])
        assert alone.tolist() == ids.tolist()
        assert alone.dtype == np.int32
        assert 2 <= len(ids) <= 16
        assert 0 <= ids.min() <= ids.max() < vocabulary


@given(st.text(st.characters(), max_size=40))
def test_any_string_even_if_not_unicode_is_taken_or_refused_by_its_field(
    preprocessor: TextPreprocessor, text: str
) -> None:
    outcome: object
    try:
        outcome = preprocessor([text])["input_ids"].shape[1]
    except InputError as error:
        outcome = error.field
    assert outcome in (8, 16, "text")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty; send at least one visible character"),
        (" \n\t\u2003", "is empty; send at least one visible character"),
        ("x" * 1001, "has 1001 characters, the limit is 1000; send a shorter text"),
        ("a \ud800", r"has half a surrogate pair, '\ud800', at character 2; send valid Unicode"),
    ],
)
def test_a_text_that_breaks_a_limit_is_named(
    preprocessor: TextPreprocessor, text: str, problem: str
) -> None:
    with pytest.raises(InputError) as caught:
        preprocessor(["a good film", text])
    assert (caught.value.field, caught.value.problem) == ("text", problem)
    assert str(caught.value) == f"text: {problem}"


def test_a_text_at_the_limit_is_taken(preprocessor: TextPreprocessor) -> None:
    assert preprocessor(["x" * 1000])["input_ids"].shape == (1, 8)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"version": "1.0"}', b"[" * 9999])
def test_a_broken_tokenizer_file_is_named(content: bytes, tiny_spec: TextPreprocess) -> None:
    with pytest.raises(ManifestError, match=r"^tokenizer\.json: not a tokenizers file"):
        TextPreprocessor(content, tiny_spec)


@pytest.mark.parametrize("last", [1, 2])
def test_buckets_without_room_for_a_word_are_refused(tokenizer_json: bytes, last: int) -> None:
    """The library would not cut at all, and the first long text would break the padding."""
    spec = TextPreprocess(buckets=(last,), pad_id=0, max_characters=10)
    with pytest.raises(ManifestError, match=f"{last} tokens hold nothing beside the 2 special"):
        TextPreprocessor(tokenizer_json, spec)
    TextPreprocessor(tokenizer_json, TextPreprocess(buckets=(3,), pad_id=0, max_characters=10))


def test_a_picture_is_refused(preprocessor: TextPreprocessor) -> None:
    with pytest.raises(InputError, match="is not what this model takes; send `text`"):
        preprocessor([b"\x89PNG"])


def test_the_end_that_the_manifest_names_is_kept(
    tokenizer_json: bytes, tiny_spec: TextPreprocess
) -> None:
    text = "good " * 20 + "bad " * 20
    kept = {}
    for side in ("first", "last"):
        spec = msgspec.structs.replace(tiny_spec, keep=side)
        (ids,) = TextPreprocessor(tokenizer_json, spec).encode([text])
        assert len(ids) == 16
        kept[side] = set(ids[1:-1].tolist())
    assert len(kept["first"]) == len(kept["last"]) == 1
    assert kept["first"] != kept["last"]
