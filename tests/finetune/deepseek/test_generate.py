"""Laws of generation: a text depends on prompt, settings and seed, not on how it was computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from finetune.deepseek import checkpoint
from finetune.deepseek.generate import Answer, Generator, _bucket
from finetune.deepseek.sampling import Settings
from finetune.errors import GenerationError, ModelError

GOLDEN = Path(__file__).parent / "golden"
PROMPTS = [[7, 3, 50, 11, 9], [2, 30], [44, 12, 6, 6, 26, 22, 56, 4]]
SAMPLED = Settings(max_new_tokens=12, temperature=1.5, top_k=40, top_p=0.95, seed=5)


def tokenizer_json() -> bytes:
    """Token 7 is the word `w7`."""
    words = {f"w{number}": number for number in range(61)}
    return Tokenizer(models.WordLevel(words, unk_token="w0")).to_str().encode()  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=["qwen2", "v3-yarn"])
def generator(request: pytest.FixtureRequest) -> Generator:
    model = checkpoint.from_pretrained(GOLDEN / request.param)
    return Generator(model, tokenizer_json=tokenizer_json())


def text(tokens: Any) -> str:
    return " ".join(f"w{token}" for token in tokens)


def test_greedy_text_is_the_references(generator: Generator) -> None:
    family = generator._model.config.family
    folder = GOLDEN / {"qwen2": "qwen2", "deepseek_v3": "v3-yarn"}[family]
    (whole,) = np.load(folder / "golden.npz")["greedy"].tolist()
    (found,) = generator.generate([whole[:9]], Settings(max_new_tokens=50))
    assert found == Answer(tokens=tuple(whole[9:59]), text=text(whole[9:59]), stop_reason="length")


def test_a_text_is_the_same_alone_and_beside_others(generator: Generator) -> None:
    together = generator.generate(PROMPTS, SAMPLED)
    assert len({answer.tokens for answer in together}) == 3
    for place, prompt in enumerate(PROMPTS):
        alone = dataclasses.replace(SAMPLED, seed=SAMPLED.seed + place)
        assert generator.generate([prompt], alone) == [together[place]]


@pytest.mark.parametrize("every", [1, 5])
def test_a_stream_is_the_text_in_pieces(generator: Generator, every: int) -> None:
    (whole,) = generator.generate(PROMPTS[:1], SAMPLED)
    pieces = list(generator.stream(PROMPTS[0], SAMPLED, every=every))
    assert len(pieces) == -(-12 // every)
    assert sum((piece.tokens for piece in pieces), ()) == whole.tokens
    assert "".join(piece.text for piece in pieces) == whole.text
    assert [piece.stop_reason for piece in pieces] == [None] * (len(pieces) - 1) + ["length"]


def test_an_end_token_ends_its_text_alone(generator: Generator) -> None:
    plain = generator.generate(PROMPTS, SAMPLED)
    end = plain[0].tokens[3]
    settings = dataclasses.replace(SAMPLED, end_ids=(end, 99))
    found = generator.generate(PROMPTS, settings)
    for before, after in zip(plain, found, strict=True):
        if end in before.tokens:
            count = before.tokens.index(end) + 1
            assert after.tokens == before.tokens[:count]
            assert after.text == text(before.tokens[: count - 1])
            assert after.stop_reason == "stop"
        else:
            assert after == before


def test_a_stop_string_ends_its_text_before_it(generator: Generator) -> None:
    (plain,) = generator.generate(PROMPTS[:1], dataclasses.replace(SAMPLED, max_new_tokens=40))
    stop = text(plain.tokens[20:22])
    settings = dataclasses.replace(SAMPLED, max_new_tokens=40, stop=(stop, "never"))
    (found,) = generator.generate(PROMPTS[:1], settings)
    assert found.text == plain.text[: plain.text.index(stop)]
    assert found.stop_reason == "stop"
    assert len(found.tokens) <= 22
    pieces = list(generator.stream(PROMPTS[0], settings))
    assert "".join(piece.text for piece in pieces) == found.text


def test_a_text_ends_where_the_context_does(generator: Generator) -> None:
    long, short = [3] * 60, [3] * 50
    answers = generator.generate([long, short], Settings(max_new_tokens=100))
    assert [len(answer.tokens) for answer in answers] == [4, 14]
    assert {answer.stop_reason for answer in answers} == {"length"}


def test_a_program_is_compiled_once_for_a_bucket(generator: Generator) -> None:
    fresh = Generator(generator._model)
    for prompt, tokens in (([1] * 5, 14), ([2] * 16, 16), ([3], 10)):
        fresh.generate([prompt], Settings(max_new_tokens=tokens))
    fresh.generate([[4]], SAMPLED)
    assert fresh.compilations == 2
    fresh.generate([[4] * 17], Settings(max_new_tokens=20))  # other buckets
    assert fresh.compilations == 4
    assert [_bucket(tokens) for tokens in (1, 16, 17, 255, 257)] == [16, 16, 24, 256, 384]


@pytest.mark.parametrize(
    ("prompt", "settings", "problem"),
    [
        ([], {}, r"prompt 1: has 0 tokens; give 1 to 63, since the model reads 64"),
        ([5] * 64, {}, r"prompt 1: has 64 tokens; give 1 to 63"),
        ([5, 61], {}, "prompt 1: has tokens 5 to 61; the model has 0 to 60"),
        ("w3", {}, "prompt 1: is text, but there is no tokenizer; give token ids"),
        ([5], {"stop": ("a",)}, r"stop: \['a'\] needs a tokenizer"),
    ],
)
def test_what_can_not_be_is_one_clear_error(
    generator: Generator, prompt: Any, settings: Any, problem: str
) -> None:
    plain = Generator(generator._model)
    with pytest.raises(GenerationError, match=f"^{problem}"):
        plain.generate([[1], prompt], Settings(**settings))


def test_no_prompt_has_no_answer(generator: Generator) -> None:
    assert generator.generate([]) == []


def test_what_is_no_tokenizer_is_named(generator: Generator) -> None:
    with pytest.raises(ModelError, match=r"^tokenizer_json: not a tokenizers file"):
        Generator(generator._model, tokenizer_json=b"{}")


def test_a_prompt_may_be_text(generator: Generator) -> None:
    settings = Settings(max_new_tokens=3)
    assert generator.generate(["w9"], settings) == generator.generate([[9]], settings)
