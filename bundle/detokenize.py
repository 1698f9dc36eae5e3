"""Token ids, as a model gives them one by one → pieces of text that can be shown at once.

    tokens      "Gr" "\\xc3" "\\xbc" "\\xc3\\x9fe" "\\n" "Us" "er" ":"      stop: "\\nUser:"
    pieces      "Gr" ""     "ü"    "ße"        ""   ""   ""   end
                     └ half a character        └ may be the beginning of the stop string

All pieces together are what decoding all tokens at once gives, up to the stop string.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # stands for bytes that are no whole character
_LOOK_BACK = 8  # tokens of what a text goes on from
# Such tokens are characters only once it is known where their run ends.
_RAW_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Detokenizer:
    """One text that grows; `stopped` tells that a stop string came, after which nothing does.

    Args:
        tokenizer: its special tokens have no text.
        stop: strings that end the text, and are no part of it; of those that are complete first,
            the longest counts.
        after: tokens that the text goes on from; many tokenizers drop a space at a beginning.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str] = (), after: Sequence[int] = ()
    ) -> None:
        self.stopped = False
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        added = tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        # Tokens whose text is out: the next one's depends on them.
        self._context = [number for number in after[-_LOOK_BACK:] if self._has_text(number)]
        self._pending: list[int] = []  # tokens that are no whole character yet
        self._held = ""  # may be the beginning of a stop string

    def push(self, ids: Iterable[int]) -> str:
        """What can be shown after some more tokens."""
        for number in ids:
            if self._has_text(number):
                self._pending.append(number)
                is_open = bool(_RAW_BYTE.fullmatch(self._tokenizer.id_to_token(number)))
                self._held += "" if is_open else self._text(only_whole=True)
        return self._released()

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        self._held += self._text(only_whole=False)
        text = self._released()
        if self.stopped:
            return text
        text, self._held = text + self._held, ""
        return text

    def _has_text(self, number: int) -> bool:
        return number not in self._special and bool(self._tokenizer.id_to_token(number))

    def _text(self, *, only_whole: bool) -> str:
        """Of the pending tokens; nothing, if it must be whole and may change yet."""
        before = self._decode(self._context)
        both = self._decode(self._context + self._pending)
        if only_whole and both.endswith(_REPLACEMENT):
            return ""
        self._context, self._pending = self._pending or self._context, []
        return both[len(before) :]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def _released(self) -> str:
        """What of the held text is no part of a stop string."""
        if self.stopped:
            return ""
        found = [
            (self._held.index(stop) + len(stop), -len(stop))
            for stop in self._stop
            if stop in self._held
        ]
        if found:
            self.stopped = True
            end, length = min(found)
            return self._held[: end + length]
        kept = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        whole = len(self._held) - kept
        text, self._held = self._held[:whole], self._held[whole:]
        return text


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end is the beginning of a stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
