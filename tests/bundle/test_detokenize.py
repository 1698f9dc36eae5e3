"""Laws of detokenizing: the pieces are the text, with no broken character or stop string."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from bundle.detokenize import Detokenizer

TEXT = "Grüße, 世界! 👩‍👩‍👧 naïve\n<|end|>"


def byte_level() -> Tokenizer:
    """A token for each byte, and for some pairs; as DeepSeek's, Qwen's and Llama 3's."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("Ã", "¼"), ("Ġ", "a")]
    words = [*alphabet, *(left + right for left, right in merges)]
    vocabulary = {token: number for number, token in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As Llama 2's: words that carry their space, and bytes for what is in none of them."""
    words = ["<unk>", "▁", "▁a", "a", "b", "▁Gr", "é", "世"]
    vocabulary = {token: number for number, token in enumerate(words)}
    vocabulary |= {f"<0x{byte:02X}>": len(words) + byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def words() -> Tokenizer:
    """Without a decoder: words between spaces."""
    return Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "film": 2, "was": 3}, "[UNK]"))


TOKENIZERS = {made.__name__: made() for made in (byte_level, byte_fallback, words)}


def cut(ids: Sequence[int], cuts: Sequence[int]) -> list[list[int]]:
    """A text's tokens in parts."""
    edges = [0, *sorted(min(each, len(ids)) for each in cuts), len(ids)]
    return [list(ids[first:last]) for first, last in itertools.pairwise(edges)]


@st.composite
def tokens(draw: Any) -> tuple[Tokenizer, list[int]]:
    """Any tokens: most are no text that a tokenizer would make, as those of a model may be."""
    tokenizer = TOKENIZERS[draw(st.sampled_from(sorted(TOKENIZERS)))]
    largest = tokenizer.get_vocab_size() + 1
    return tokenizer, draw(st.lists(st.integers(0, largest), max_size=24))


@given(tokens(), st.lists(st.integers(0, 24), max_size=6))
def test_all_pieces_are_the_text(made: tuple[Tokenizer, list[int]], cuts: list[int]) -> None:
    tokenizer, ids = made
    stream = Detokenizer(tokenizer)
    pieces = [stream.push(part) for part in cut(ids, cuts)]
    whole = tokenizer.decode(ids)
    assert "".join([*pieces, stream.finish()]) == whole
    assert "".join(pieces).count("\ufffd") <= whole.count("\ufffd")


@given(st.text(max_size=12))
def test_a_text_that_is_whole_never_shows_half_a_character(text: str) -> None:
    ids = TOKENIZERS["byte_level"].encode(text).ids
    stream = Detokenizer(TOKENIZERS["byte_level"])
    pieces = [stream.push([token]) for token in ids] + [stream.finish()]
    if "<|end|>" not in text:
        assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


@given(
    st.text("ab cüß", max_size=30),
    st.lists(st.text("abü ", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 30), max_size=6),
)
def test_a_text_ends_before_the_stop_string_that_is_complete_first(
    text: str, stop: list[str], cuts: list[int]
) -> None:
    ends = [
        (text.index(each) + len(each), text.index(each)) for each in stop if each in text
    ]  # where each is complete, where it begins
    expected = text[: min(ends)[1]] if ends else text
    ids = TOKENIZERS["byte_level"].encode(text).ids
    stream = Detokenizer(TOKENIZERS["byte_level"], stop)
    shown = ""
    for part in cut(ids, cuts):
        shown += stream.push(part)
        assert expected.startswith(shown)
    assert shown + stream.finish() == expected
    assert stream.stopped == bool(ends)


def test_nothing_is_held_back_that_can_be_shown() -> None:
    stream = Detokenizer(TOKENIZERS["byte_level"], ["\nUser:"])
    ids = TOKENIZERS["byte_level"].encode("aü\nUse it\nUser: no").ids
    shown = [stream.push([token]) for token in ids]
    assert [piece for piece in shown if piece] == ["a", "ü", "\nUse ", "i", "t"]
    assert stream.stopped
    assert stream.finish() == ""


def test_special_tokens_have_no_text_and_added_ones_have() -> None:
    tokenizer = TOKENIZERS["byte_level"]
    ids = tokenizer.encode("a<|end|>b<think>").ids
    assert Detokenizer(tokenizer).push(ids) == "ab<think>"
