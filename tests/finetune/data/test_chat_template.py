"""Laws of templates: the text is theirs, and an answer is what the model would have to say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.data import chat_template
from finetune.data.chat_template import ChatTemplate
from finetune.data.conversations import Message
from finetune.errors import ModelError

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
# A turn has its own lines.
LINES = (
    "{% for m in messages %}{{ '<' + m.role + '>\\n' + m.content + '<end>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>\\n' }}{% endif %}"
)
# A model that thinks: thoughts are cut from answers, and a prompt begins them; spaces are stripped.
THINKS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<U>' + m.content|trim }}"
    "{% elif m.role == 'assistant' %}"
    "{{ '<A>' + m.content.split('</think>')|last|trim + eos_token }}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<A><think>\\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ 'A:' }}"
    "{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ 'Q:' + m.content }}{% endif %}{% endfor %}"
)
# Thoughts stay in the last answer only.
FORGETS = (
    "{% for m in messages %}{{ '<' + m.role + '>' }}{% if loop.last %}{{ m.content }}"
    "{% else %}{{ m.content.split('</think>')|last }}{% endif %}{{ '<end>' }}{% endfor %}"
)
TALK = (
    Message("system", "Be brief."),
    Message("user", "Hello "),
    Message("assistant", "<think>polite</think> Good day"),
    Message("user", "And?"),
    Message("assistant", "Hello"),
)


def answers(source: str, talk: tuple[Message, ...] = TALK) -> list[str]:
    rendered = ChatTemplate(source, TOKENS).render(talk)
    return [rendered.text[first:last] for first, last in rendered.answers]


def test_answers_are_what_the_model_would_have_to_say() -> None:
    assert answers(LINES) == ["<think>polite</think> Good day<end>\n", "Hello<end>\n"]
    assert answers(THINKS) == ["Good day</s>", "Hello</s>"]
    assert answers(MARKED) == ["<think>polite</think> Good day</s>", "Hello</s>"]


def test_the_text_is_the_templates() -> None:
    text = ChatTemplate(THINKS, TOKENS).render(TALK).text
    assert text == "<s>Be brief.<U>Hello<A>Good day</s><U>And?<A>Hello</s>"


def test_a_template_that_forgets_is_refused_where_it_would_mislead() -> None:
    assert answers(FORGETS, TALK[:3]) == ["<think>polite</think> Good day<end>"]
    with pytest.raises(ValueError, match=r"writes `messages\[2\]` otherwise when more follows"):
        answers(FORGETS)


def test_what_a_template_refuses_is_an_error_of_the_line() -> None:
    source = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ValueError, match="the chat template refuses it: roles must alternate"):
        answers(source)


def test_templates_run_in_a_sandbox() -> None:
    with pytest.raises(ValueError, match="the chat template refuses it"):
        answers("{{ ''.__class__.__mro__ }}{{ messages.append(1) }}")


def test_a_checkpoints_template_is_found(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    with pytest.raises(ModelError, match=r"has no chat template .*add `chat_template`"):
        chat_template.read(tmp_path)
    special = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": True}
    path.write_text(json.dumps({"chat_template": MARKED, **special}))
    assert chat_template.read(tmp_path).render(TALK).text.endswith("A:Hello</s>")
    both = [{"name": "tools", "template": ""}, {"name": "default", "template": LINES}]
    path.write_text(json.dumps({"chat_template": both}))
    assert chat_template.read(tmp_path).source == LINES
    (tmp_path / "chat_template.jinja").write_text(THINKS)
    assert chat_template.read(tmp_path).source == THINKS
    path.write_text("{")
    with pytest.raises(ModelError, match="has no chat template"):
        chat_template.read(tmp_path)
