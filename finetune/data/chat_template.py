"""Conversations → texts as the checkpoint knows them, and which parts of them are answers.

    <user>Hello<assistant>Good day.<end><user>…     rendered by the checkpoint's template
                          └─ an answer ─┘           and learnt; the rest is only read

A template that marks answers itself, by `{% generation %}`, is taken at its word. Any other is
asked for each answer twice: once with a mark in its place, which shows where it begins, and once as
it is, which shows where it ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError

from finetune.data.conversations import Conversation
from finetune.errors import ModelError

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MARK = "TENSORSEEKANSWER"  # no template cuts or changes it
Span = tuple[int, int]  # of characters: the first, and the one after the last


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as text."""

    text: str
    answers: tuple[Span, ...]


def read(folder: Path) -> ChatTemplate:
    """The template of a checkpoint: `chat_template.jinja`, or of its `tokenizer_config.json`.

    Raises:
        ModelError: it has none.
    """
    path, own = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    try:
        settings = json.loads(path.read_bytes()) if path.is_file() else {}
        known = own.read_text(encoding="utf-8") if own.is_file() else settings["chat_template"]
        if isinstance(known, list):  # several, by name
            known = {each["name"]: each["template"] for each in known}["default"]
        return ChatTemplate(known, dict(_special(settings)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"base_model {folder}: has no chat template ({error!r}); add `chat_template` to its "
            "tokenizer_config.json, or a chat_template.jinja"
        ) from error


class ChatTemplate:
    """A checkpoint's template.

    Args:
        source: Jinja; it runs in transformers' sandbox.
        tokens: special ones, by the names that templates call them, such as `bos_token`.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self._tokens = dict(tokens)

    def render(self, conversation: Conversation) -> Rendered:
        """One conversation.

        Raises:
            ValueError: the template refuses it, or does not tell where an answer stands.
        """
        messages = [{"role": each.role, "content": each.content} for each in conversation]
        try:
            if _MARKS.search(self.source):
                (text,), (spans,) = self._render(messages, return_assistant_tokens_mask=True)
                return Rendered(text=text, answers=tuple(spans))
            return self._search(messages)
        except TemplateError as error:
            raise ValueError(f"the chat template refuses it: {error}") from error

    def _search(self, messages: list[dict[str, str]]) -> Rendered:
        ((whole,), _) = self._render(messages)
        answers = []
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            marked = [*messages[:place], message | {"content": _MARK}]
            ((probe,), _), ((until,), _) = self._render(marked), self._render(messages[: place + 1])
            first = probe.find(_MARK)
            if first < 0 or not until.startswith(probe[:first]) or not whole.startswith(until):
                raise ValueError(
                    f"the chat template writes `messages[{place}]` otherwise when more follows; "
                    "end the conversation there, or mark answers in it by {% generation %}"
                )
            answers.append((first, len(until)))
        return Rendered(text=whole, answers=tuple(answers))

    def _render(self, messages: Sequence[dict[str, str]], **settings: Any) -> Any:
        from transformers.utils.chat_template_utils import (  # noqa: PLC0415 (takes its time)
            render_jinja_template,
        )

        return render_jinja_template(
            [list(messages)], chat_template=self.source, **settings, **self._tokens
        )


def _special(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each special token, which is a text, or an object that holds it."""
    for name, token in settings.items():
        text = token["content"] if isinstance(token, dict) and "content" in token else token
        if name.endswith("_token") and isinstance(text, str):
            yield name, text
