"""Laws of the flow, without sockets: the backend is an async function over NumPy arrays."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bundle.manifest import ImagePreprocess
from bundle.postprocess import rank_labels
from bundle.repository import ModelRepository
from serving.errors import BackendFault, BackendUnavailable, InvalidArgument, UnknownModel
from serving.gateway import predictor
from serving.gateway.access import Visitor
from serving.gateway.call import Call, Origin
from serving.gateway.catalog import Catalog
from serving.gateway.predictor import Answer, Predictor
from serving.gateway.published import Model
from serving.gateway.types import Deadline, Execute, ModelKey, Submit, Tensors

LABELS = ("negative", "positive")
PICTURES = ImagePreprocess(height=4, width=6)


async def token_sums(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
    """Logits [B, 2] that depend on every token of a text, and on no padding."""
    ids = (inputs["input_ids"] * inputs["attention_mask"]).sum(1)
    return {"logits": np.stack([-ids, ids], 1).astype(np.float32) / 100}


async def first_version(name: str, published: Mapping[int, Model]) -> frozenset[int]:
    return frozenset({1})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, publish_plain: Callable[..., int]) -> Catalog:
    models = tmp_path_factory.mktemp("models")
    publish_plain(models)
    publish_plain(models, name="writer", task="text-generation", labels=())
    publish_plain(models, name="eyes", task="image-classification", preprocess=PICTURES)
    catalog = Catalog(ModelRepository(models), first_version)
    asyncio.run(catalog.refresh())
    return catalog


def alone(execute: Execute) -> Submit:
    """Merges nothing."""
    return lambda key, inputs, deadline, caller: execute(key, inputs, deadline)


def a_call() -> Call:
    deadline, visitor = Deadline.after(60), Visitor("someone")
    return Call(method="Predict", origin=Origin("", (), None), deadline=deadline, visitor=visitor)


def ask(
    catalog: Catalog,
    inputs: Sequence[Any],
    execute: Execute = token_sums,
    max_batch: int = 4,
    model: str = "tiny",
) -> Answer:
    flow = Predictor(catalog, execute, alone(execute), max_batch)
    return asyncio.run(flow.predict(catalog.find(model), inputs, a_call()))


words = st.lists(st.sampled_from("good bad film plot a the".split()), min_size=1, max_size=20)
texts = st.lists(st.just("") | words.map(" ".join), min_size=1, max_size=12)


@given(texts=texts)
def test_each_text_is_answered_at_its_place_as_if_it_came_alone(
    catalog: Catalog, texts: list[str]
) -> None:
    if not any(texts):
        assert "inputs[0].text: is empty" in str(ask(catalog, texts).refused)
        return
    answer = ask(catalog, texts)
    assert answer.refused is None
    for place, (text, outcome) in enumerate(zip(texts, answer.outcomes, strict=True)):
        if text:
            assert outcome == ask(catalog, [text]).outcomes[0]
        else:
            assert isinstance(outcome, InvalidArgument)
            assert outcome.field == f"inputs[{place}].text"
    assert sum(answer.batches) == sum(map(bool, texts))
    assert max(answer.batches) <= 4


def test_calls_to_the_backend_run_at_once(catalog: Catalog) -> None:
    waiting = 0
    together = asyncio.Event()

    async def meet(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            together.set()
        await together.wait()
        return await token_sums(key, inputs, deadline)

    assert len(ask(catalog, ["good"] * 9, meet).outcomes) == 9


def test_long_work_leaves_the_event_loop_free(catalog: Catalog) -> None:
    many = ["good " * 30] * 50
    assert sum(map(len, many)) > predictor.INLINE_CHARACTERS
    answer = ask(catalog, many)
    assert answer.outcomes == ask(catalog, many[:1]).outcomes * 50


def test_the_first_failure_ends_the_call_and_cancels_the_rest(catalog: Catalog) -> None:
    cancelled = 0

    async def fail_for_short(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        nonlocal cancelled
        if inputs["input_ids"].shape[1] == 8:
            raise BackendUnavailable("gone")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return {}

    with pytest.raises(BackendUnavailable):
        ask(catalog, ["good", "good " * 12], fail_for_short)
    assert cancelled == 1


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "logits: is missing"),
        ({"logits": np.zeros((1, 3), np.float32)}, r"logits: is float32 \[1, 3\]; .* \[1, 2\]"),
        ({"logits": np.zeros((1, 2), np.int32)}, "logits: is int32"),
        ({"logits": np.float32([[np.nan, 0]])}, "not finite"),
    ],
)
def test_an_answer_that_makes_no_sense_is_the_backends_fault(
    catalog: Catalog, outputs: dict[str, Any], message: str
) -> None:
    async def answer(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        return outputs

    with pytest.raises(BackendFault, match=message):
        ask(catalog, ["good"], answer)


def test_a_refusal_is_the_callers_fault_only_for_the_callers_own_tensors(
    catalog: Catalog,
) -> None:
    own = {"input_ids": np.int32([[99]]), "attention_mask": np.int32([[1]])}

    async def refuse(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        if inputs["input_ids"].max() == 99:
            raise InvalidArgument("tensors", "too large")
        return await token_sums(key, inputs, deadline)

    answer = ask(catalog, ["good", own], refuse)
    assert isinstance(answer.outcomes[1], InvalidArgument)
    assert answer.outcomes[1].field == "inputs[1].tensors"

    async def refuse_all(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        raise InvalidArgument("tensors", "too large")

    with pytest.raises(BackendFault, match="refuses tensors of ours"):
        ask(catalog, ["good"], refuse_all)


def test_a_language_models_answer_is_the_logits_of_each_text(catalog: Catalog) -> None:
    async def next_tokens(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        ids = (inputs["input_ids"] * inputs["attention_mask"]).sum(1, keepdims=True)
        return {"logits": np.float32(ids * np.arange(5))}

    texts = ["good", "a film", "bad plot " * 4]
    found = ask(catalog, texts, next_tokens, model="writer").outcomes
    for text, outcome in zip(texts, found, strict=True):
        (alone,) = ask(catalog, [text], next_tokens, model="writer").outcomes
        assert isinstance(outcome, Mapping)
        assert isinstance(alone, Mapping)
        assert outcome["logits"].shape == (1, 5)
        np.testing.assert_array_equal(outcome["logits"], alone["logits"])


def picture(brightness: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 5), (brightness,) * 3).save(file, "PNG")
    return file.getvalue()


async def brightness(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
    """Bright pictures are positive."""
    assert inputs["pixels"].dtype == np.uint8
    assert inputs["pixels"].shape[1:] == (4, 6, 3)
    mean = inputs["pixels"].mean((1, 2, 3))
    return {"logits": np.stack([128 - mean, mean - 128], 1).astype(np.float32)}


def test_pictures_are_decoded_and_answered_in_order(catalog: Catalog) -> None:
    pictures = [picture(level) for level in (250, 3, 200, 90, 255, 0)]
    answer = ask(catalog, pictures, brightness, model="eyes")
    best = [outcome[0].label for outcome in answer.outcomes]  # type: ignore[index,union-attr]
    assert best == [LABELS[level > 128] for level in (250, 3, 200, 90, 255, 0)]
    assert answer.batches == [4, 2]


def test_a_picture_that_is_damaged_fails_alone(catalog: Catalog) -> None:
    """Also one whose damage shows only when it is decoded."""
    whole = picture(250)
    inputs = [whole, b"no picture", whole[:-30], "a text", whole]
    outcomes = ask(catalog, inputs, brightness, model="eyes").outcomes
    for place, problem in ((1, "is no JPEG"), (2, "is damaged"), (3, "is not what this model")):
        outcome = outcomes[place]
        assert isinstance(outcome, InvalidArgument)
        assert outcome.problem.startswith(problem)
        assert outcome.field == f"inputs[{place}].{'text' if place == 3 else 'image'}"
    assert outcomes[0] == outcomes[4]
    refused = ask(catalog, [whole[:-30]], brightness, model="eyes").refused
    assert "inputs[0].image: is damaged" in str(refused)


def test_a_version_that_was_swapped_away_is_replaced_once(
    tmp_path: Path, publish_plain: Callable[..., int]
) -> None:
    publish_plain(tmp_path)
    loaded = {1}

    async def available(name: str, published: Mapping[int, Model]) -> frozenset[int]:
        return frozenset(loaded)

    async def execute(key: ModelKey, inputs: Tensors, deadline: Deadline) -> Tensors:
        if key.version not in loaded:
            raise UnknownModel(f"no {key}")
        return await token_sums(key, inputs, deadline)

    async def swap() -> None:
        catalog = Catalog(ModelRepository(tmp_path), available)
        await catalog.refresh()
        flow = Predictor(catalog, execute, alone(execute), 4)
        first = catalog.find("tiny")
        publish_plain(tmp_path)
        loaded.symmetric_difference_update({1, 2})
        with pytest.raises(UnknownModel):
            await flow.predict(first, ["good"], a_call())
        call = a_call()
        answer = await flow.predict(first, ["good"], call, swap="tiny")
        assert answer.version == call.version == 2

    asyncio.run(swap())


def test_labels_are_ranked_by_the_bundles_own_rule(catalog: Catalog) -> None:
    (outcome,) = ask(catalog, ["good"]).outcomes
    tokens = 2 + 3 + catalog.find("tiny").preprocessor.encode(["good"])[0][1]
    logits = np.float32([[-tokens, tokens]]) / 100
    assert outcome == rank_labels(logits, LABELS)[0]
