"""Laws of generation: the pieces are the text the model writes, and it ends for the reason told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bundle.manifest import Generation
from bundle.repository import ModelRepository
from serving.errors import BackendFault, BackendUnavailable, InvalidArgument, LimitExceeded
from serving.gateway.catalog import Catalog
from serving.gateway.config import GatewayConfig
from serving.gateway.generator import Generator, Piece, Wish
from serving.gateway.published import Model
from serving.gateway.types import Deadline, ModelKey, Tensors

POSITIONS = 40


# A language model in NumPy: what it remembers of a text is the text.
END, WORDS = 3, 19  # [SEP] of the tiny tokenizer, and the words after it


def follow(ids: list[int], seed: int) -> int:
    """The token after some others; now and then the end."""
    chosen = (7 * ids[-1] + 3 * len(ids) + seed) % (WORDS + 1)
    return END if chosen == WORDS else 4 + chosen


def written(prompt: list[int], seed: int, most: int) -> list[int]:
    """What it writes after a prompt, up to and with its end."""
    ids = list(prompt)
    while len(ids) < len(prompt) + most and (len(ids) == len(prompt) or ids[-1] != END):
        ids.append(follow(ids, seed))
    return ids[len(prompt) :]


def answer(signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Answers `prefill` and `decode` for one text; refuses a memory that is not this text's."""
    ids, seed = inputs["input_ids"][0].tolist(), int(inputs["seed"][0])
    assert inputs["attention_mask"].all()
    steps = 1
    if signature == "decode":
        steps = int(inputs["steps"])
        assert inputs["cache"][0, :, 0].tolist() == ids[:-1]
    known = len(ids)
    for _ in range(steps):
        ids.append(END if ids[-1] == END and signature == "decode" else follow(ids, seed))
    cache = np.asarray(ids[:-1], np.float32)[None, :, None]
    return {"tokens": np.asarray([ids[known:]], np.int32), "cache": cache}


async def run(key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline) -> Tensors:
    return answer(signature, inputs)


async def first_version(name: str, published: Mapping[int, Model]) -> frozenset[int]:
    return frozenset({1})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, publish_plain: Callable[..., int]) -> Path:
    root = tmp_path_factory.mktemp("models")
    generation = Generation(positions=POSITIONS, end_ids=(END,))
    publish_plain(root)
    publish_plain(root, name="writer", task="text-generation", labels=(), generation=generation)
    return root


@pytest.fixture(scope="module")
def catalog(models: Path) -> Catalog:
    catalog = Catalog(ModelRepository(models), first_version)
    asyncio.run(catalog.refresh())
    return catalog


@pytest.fixture(scope="module")
def config(models: Path) -> GatewayConfig:
    return GatewayConfig(models=models, backend="127.0.0.1:1", max_new_tokens=25)


def ask(
    catalog: Catalog, config: GatewayConfig, model: str = "writer", execute: Any = run, **wish: Any
) -> list[Piece]:
    async def collect() -> list[Piece]:
        generator = Generator(execute, config)
        pieces = generator.generate(catalog.find(model), Wish(**wish), Deadline.after(60))
        return [piece async for piece in pieces]

    return asyncio.run(collect())


def expected(tokenizer_json: bytes, prompt: str, seed: int, most: int) -> tuple[str, list[int]]:
    tokenizer = Tokenizer.from_buffer(tokenizer_json)
    ids = tokenizer.encode(prompt).ids
    new = written(ids, seed, min(most, POSITIONS - len(ids)))
    visible = [token for token in new if token != END]
    # The tiny tokenizer's words stand with spaces between them, also after the prompt's.
    whole = tokenizer.decode(ids[-8:] + visible, skip_special_tokens=False)
    return whole[len(tokenizer.decode(ids[-8:], skip_special_tokens=False)) :], new


prompts = st.lists(st.sampled_from("a good bad film plot".split()), min_size=1, max_size=30)


@given(words=prompts, seed=st.integers(0, 500), most=st.integers(1, 30))
def test_the_pieces_are_what_the_model_writes(
    catalog: Catalog,
    config: GatewayConfig,
    tokenizer_json: bytes,
    words: list[str],
    seed: int,
    most: int,
) -> None:
    prompt = " ".join(words)
    pieces = ask(catalog, config, prompt=prompt, seed=seed, max_new_tokens=most)
    text, new = expected(tokenizer_json, prompt, seed, min(most, 25))
    assert "".join(piece.text for piece in pieces) == text
    *before, last = pieces
    assert all(piece.reason is None and piece.text for piece in before)
    assert last.reason == ("end" if new[-1] == END else "length")
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.new_tokens) == (len(words) + 2, len(new))


def test_the_first_words_come_before_the_last_are_asked_for(
    catalog: Catalog, config: GatewayConfig
) -> None:
    steps: list[int] = []

    async def count(key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline) -> Tensors:
        steps.append(int(inputs["steps"]) if signature == "decode" else 0)
        return await run(key, signature, inputs, deadline)

    (last,) = ask(catalog, config, execute=count, prompt="good", seed=2)[-1:]
    assert last.usage is not None
    assert steps[:5] == [0, 1, 2, 4, 8][: len(steps)]
    assert max(steps) <= 8


def test_a_stop_string_ends_the_text_and_is_no_part_of_it(
    catalog: Catalog, config: GatewayConfig
) -> None:
    whole = "".join(piece.text for piece in ask(catalog, config, prompt="good", seed=2))
    words = whole.split()
    assert len(words) > 3
    stop = f"{words[1]} {words[2]}"
    pieces = ask(catalog, config, prompt="good", seed=2, stop=("never", stop))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert pieces[-1].reason == "stop"


def test_a_text_that_is_left_is_asked_for_no_more(catalog: Catalog, config: GatewayConfig) -> None:
    asked = 0

    async def count(key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline) -> Tensors:
        nonlocal asked
        asked += 1
        return await run(key, signature, inputs, deadline)

    async def leave() -> None:
        generator = Generator(count, config)
        wish = Wish(prompt="good", seed=2)
        pieces = generator.generate(catalog.find("writer"), wish, Deadline.after(60))
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(leave())
    assert asked == 1


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"prompt": ""}, "prompt: is empty"),
        ({"prompt": "good " * 39}, "prompt: has 41 tokens, the model holds 40 with the answer"),
        ({"prompt": "a", "max_new_tokens": -1}, "max_new_tokens: is -1; send 0 to"),
        ({"prompt": "a", "temperature": -0.5}, "sampling.temperature: is -0.5; send 0 to 100"),
        ({"prompt": "a", "temperature": float("nan")}, "sampling.temperature: is nan"),
        ({"prompt": "a", "top_p": 1.5}, "sampling.top_p: is 1.5; send 0 to 1"),
        ({"prompt": "a", "top_k": -2}, "sampling.top_k: is -2"),
        ({"prompt": "a", "repetition_penalty": -1}, "sampling.repetition_penalty: is -1"),
        ({"prompt": "a", "seed": -1}, "sampling.seed: is -1"),
        ({"prompt": "a", "stop": ("",)}, r"stop\[0\]: has 0 characters; send 1 to 256"),
        ({"prompt": "a", "stop": ("x",) * 17}, "stop: has 17 texts; send up to 16"),
        ({"prompt": "a", "model": "tiny"}, r"model: tiny \(text-classification\) writes no text"),
    ],
)
def test_a_bad_wish_names_the_field(
    catalog: Catalog, config: GatewayConfig, wish: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        ask(catalog, config, **wish)


def test_a_text_whose_memory_would_outgrow_the_limit_is_refused_at_its_beginning(
    catalog: Catalog, models: Path
) -> None:
    config = GatewayConfig(models=models, backend="127.0.0.1:1", max_cache_bytes=50)
    with pytest.raises(LimitExceeded, match=r"max_new_tokens: 37 after 3 .* max_cache_bytes=50"):
        ask(catalog, config, prompt="good")
    assert ask(catalog, config, prompt="good", max_new_tokens=5)


def test_a_backend_s_failure_in_the_middle_is_the_text_s(
    catalog: Catalog, config: GatewayConfig
) -> None:
    async def fail(key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline) -> Tensors:
        if signature == "decode":
            raise BackendUnavailable("gone")
        return await run(key, signature, inputs, deadline)

    with pytest.raises(BackendUnavailable, match="gone"):
        ask(catalog, config, execute=fail, prompt="good", seed=2)


@pytest.mark.parametrize("outputs", [{}, {"tokens": np.zeros([1, 0], np.int32)}])
def test_an_answer_without_tokens_is_a_fault_of_the_backend(
    catalog: Catalog, config: GatewayConfig, outputs: dict[str, Any]
) -> None:
    async def wrong(key: ModelKey, signature: str, inputs: Tensors, deadline: Deadline) -> Tensors:
        return outputs

    with pytest.raises(BackendFault, match="must give tokens, cache"):
        ask(catalog, config, execute=wrong, prompt="good")
