"""Text → token ids, padded to one of a few lengths.

"a fine film"  ──tokenizer──►  [101, 1037, 2986, 2143, 102]  ──bucket 16──►  input_ids       [B, T]
                                                                             attention_mask  [B, T]
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bundle.errors import InputError, ManifestError
from bundle.manifest import TextPreprocess
from bundle.preprocess.raw import Raw

Ids = NDArray[np.int32]


class TextPreprocessor:
    """Turns text into padded token ids, as its manifest says.

    Args:
        tokenizer_json: a Hugging Face `tokenizers` file.
        spec: buckets, padding and limits.

    Raises:
        ManifestError: the tokenizer file can't be read, or the buckets are too short for it.
    """

    def __init__(self, tokenizer_json: bytes, spec: TextPreprocess) -> None:
        self.spec = spec
        try:
            self._tokenizer = Tokenizer.from_buffer(tokenizer_json)
        except Exception as error:  # the library raises bare Exception
            raise ManifestError(f"{spec.tokenizer}: not a tokenizers file: {error}") from error
        special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if spec.buckets[-1] <= special:  # it would not truncate at all
            raise ManifestError(
                f"buckets: {spec.buckets[-1]} tokens hold nothing beside the {special} special "
                f"ones of {spec.tokenizer}; raise the last bucket"
            )
        self._tokenizer.no_padding()
        side = "right" if spec.keep == "first" else "left"  # what is cut off
        self._tokenizer.enable_truncation(spec.buckets[-1], direction=side)

    def check(self, text: Raw) -> None:
        """Refuses what the model can't take.

        Raises:
            InputError: it is no text, or empty, too long, or not Unicode.
        """
        if not isinstance(text, str):
            raise InputError("image", "is not what this model takes; send `text`")
        if not text.strip():
            raise InputError("text", "is empty; send at least one visible character")
        if len(text) > self.spec.max_characters:
            raise InputError(
                "text",
                f"has {len(text)} characters, the limit is {self.spec.max_characters}; "
                "send a shorter text",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                "text",
                f"has half a surrogate pair, {text[error.start]!r}, at character {error.start}; "
                "send valid Unicode",
            ) from error

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, special tokens included, cut at the last bucket.

        Returns:
            One int32 array [tokens] per text, in order.
        """
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]

    def bucket(self, tokens: int) -> int:
        """The smallest bucket that holds `tokens` tokens, or the last one."""
        buckets = self.spec.buckets
        return buckets[min(bisect_left(buckets, tokens), len(buckets) - 1)]

    def pad(self, ids: Sequence[Ids], length: int | None = None) -> dict[str, NDArray[np.int32]]:
        """Stacks token ids into `input_ids` and `attention_mask`, int32 [B, T].

        Args:
            ids: B arrays of at most T ids each.
            length: T; by default the bucket of the longest.
        """
        if length is None:
            length = self.bucket(max(len(row) for row in ids))
        input_ids = np.full((len(ids), length), self.spec.pad_id, np.int32)
        mask = np.zeros((len(ids), length), np.int32)
        for row, tokens in enumerate(ids):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return {"input_ids": input_ids, "attention_mask": mask}

    def __call__(self, texts: Sequence[Raw]) -> dict[str, NDArray[np.int32]]:
        """Checks, encodes and pads B texts.

        Raises:
            InputError: one of the texts breaks a limit.
        """
        for text in texts:
            self.check(text)
        return self.pad(self.encode([str(text) for text in texts]))
