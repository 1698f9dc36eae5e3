"""Texts → the token ids that a language model learns from.

    running   doc </s> doc </s> …    cut every T tokens, whatever stands there
    whole     doc </s>               each by itself, the long ones in pieces
    chats     a conversation         each by itself, cut at T; only answers are to be predicted

Two pieces share one token, so that each token but the first is predicted exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding, Tokenizer

from bundle.preprocess import Ids
from finetune.data import conversations
from finetune.data.batches import Encoded
from finetune.data.chat_template import ChatTemplate, Span
from finetune.errors import DataError


def running(tokenizer: Tokenizer, texts: Sequence[str], end: Sequence[int], length: int) -> Encoded:
    """All documents as one text, in pieces of `length` tokens.

    Args:
        end: what stands after each document.
    """
    tokens = [token for document in _documents(tokenizer, texts, end) for token in document]
    return _encoded(tokenizer, _pieces(tokens, length))


def whole(tokenizer: Tokenizer, texts: Sequence[str], end: Sequence[int], length: int) -> Encoded:
    """Each document by itself; see `running`."""
    documents = _documents(tokenizer, texts, end)
    return _encoded(tokenizer, [each for tokens in documents for each in _pieces(tokens, length)])


def chats(tokenizer: Tokenizer, template: ChatTemplate, path: Path, length: int) -> Encoded:
    """Each conversation of a file by itself, its first `length` tokens.

    Raises:
        DataError: names file and line of the first that can't be used.
    """
    rendered = []
    for number, conversation in enumerate(conversations.read(path), 1):
        try:
            rendered.append(template.render(conversation))
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}") from error
    texts = [each.text for each in rendered]
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    ids, counted = [], []
    for number, (encoding, each) in enumerate(zip(encodings, rendered, strict=True), 1):
        ids.append(np.asarray(encoding.ids[:length], np.int32))
        counted.append(_inside(encoding, each.answers)[:length])
        if not counted[-1][1:].any():  # the first token is never predicted
            raise DataError(
                f"{path}, line {number}: no answer begins within its first {length} tokens; raise "
                "the last of data.buckets, or shorten what comes before"
            )
    return _encoded(tokenizer, ids, counted)


def _documents(
    tokenizer: Tokenizer, texts: Sequence[str], end: Sequence[int]
) -> Iterable[list[int]]:
    for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        yield [*encoding.ids, *end]


def _pieces(tokens: Sequence[int], length: int) -> list[Ids]:
    starts = range(0, len(tokens) - 1, length - 1)
    return [np.asarray(tokens[start : start + length], np.int32) for start in starts]


def _inside(encoding: Encoding, spans: Sequence[Span]) -> Ids:
    """1 for each token that begins within one of the spans of characters."""
    starts = np.asarray([start for start, _ in encoding.offsets])
    found = np.zeros(len(starts), np.int32)
    for first, last in spans:
        found[(starts >= first) & (starts < last)] = 1
    return found


def _encoded(tokenizer: Tokenizer, ids: list[Ids], counted: Sequence[Ids] = ()) -> Encoded:
    texts = tuple(tokenizer.decode(list(each), skip_special_tokens=False) for each in ids)
    return Encoded(ids, np.zeros(len(ids), np.int32), texts, counted=counted)
