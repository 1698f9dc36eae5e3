"""Law: training, gateway and edge make the same tensors of the same text, whatever it holds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from bundle.preprocess import Tensors
from bundle.repository import ModelRepository
from edge import package
from edge.runner import EdgeRunner
from edge.runtime import Runtime
from finetune.data import batches, jsonl
from finetune.tasks.text_classification import TextClassification
from serving.gateway.inputs import sort_inputs
from serving.gateway.published import Published

COUNT = 10_000
LONGEST = 1000  # characters that the recipe allows
WORDS = "a the film is was very good great fine bad awful dull not and but plot actor . , !".split()
ODD = (
    "😀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪",  # pairs, joined, modified and regional emoji
    "映画はとても良い 电影很好 영화 좋아요",
    "e\u0301 n\u0303 a\u0308\u0301 Z\u0351\u036b\u0343 \u0915\u094d\u0937",  # combining marks
    "\x00 \x07 \x1b[31m \x7f \x85 \ufeff \u200b \u200d \u202e \u2028 \ufffd \U000e0041",
    "ＦＩＬＭ ﬁlm Ⅷ ß ẞ İ ı ǆ \u212b",  # what normalizing changes
    "مرحبا עברית ไทย \u0338",
    "\u00a0\u3000\u2003\t\r\n",
    "\ud7ff\ue000\uffff\U0010ffff",
)


def texts(known: list[str]) -> list[str]:
    """Real ones, and words with odd characters before, behind and inside of them."""
    generator = random.Random(0)  # noqa: S311 (no secret)
    odd = [character for group in ODD for character in group]

    def word() -> str:
        chosen = generator.choice(WORDS)
        kind = generator.randrange(6)
        if kind == 0:
            return chosen.upper()
        if kind == 1:
            place = generator.randrange(len(chosen) + 1)
            return chosen[:place] + generator.choice(odd) + chosen[place:]
        if kind == 2:
            return "".join(generator.choices(odd, k=generator.randrange(1, 6)))
        if kind == 3:
            return generator.choice(ODD)
        return chosen

    def text(words: int) -> str:
        separators = (" ", " ", "", "\n", "\u00a0")
        return "".join(word() + generator.choice(separators) for _ in range(words))[:LONGEST]

    made = [text(generator.choice((1, 3, 8, 20))) for _ in range(COUNT - len(known) - 100)]
    made += [text(400) for _ in range(100)]
    return [*known, *(each if each.strip() else "film" for each in made)]


@pytest.fixture(scope="module")
def asked(published: Any) -> list[str]:
    data = published.recipe.data
    return texts(list(jsonl.read(data.test, data.labels).texts))


def rows(tensors: Tensors) -> list[bytes]:
    """Ids and mask of each text, for comparison."""
    both = np.stack([tensors["input_ids"], tensors["attention_mask"]], 1)
    assert both.dtype == np.int32
    return [row.tobytes() for row in both]


def in_training(published: Any, asked: list[str]) -> list[bytes]:
    preprocessor = TextClassification(published.recipe).preprocessor
    for text in asked:
        preprocessor.check(text)
    data = batches.encode(preprocessor, asked, [0] * len(asked))
    found: dict[int, bytes] = {}
    for places in batches.by_length(data, preprocessor, 500):
        found.update(zip(places, rows(batches.pad(data, places, preprocessor)), strict=True))
    return [found[place] for place in range(len(asked))]


def in_gateway(models: Path, asked: list[str]) -> list[bytes]:
    model = Published(ModelRepository(models)).scan()["tiny"].versions[1]
    given = sort_inputs(model, asked)
    assert not given.errors
    return [row for text in given.raw.values() for row in rows(model.preprocessor([text]))]


def on_device(path: Path, asked: list[str]) -> Iterator[bytes]:
    given: list[dict[str, Any]] = []

    class Recording(Interpreter):
        def get_signature_runner(self, signature_key: str | None = None) -> Any:
            run = super().get_signature_runner(signature_key)

            def recorded(**inputs: Any) -> Any:
                given.append(inputs)
                return run(**inputs)

            return recorded

    runner = EdgeRunner(package.read(path), Runtime("ai-edge-litert", "2", Recording))
    for text in asked:
        given.clear()
        runner.predict(text)
        (inputs,) = given
        yield from rows(inputs)


def test_ten_thousand_strings_have_the_same_ids_everywhere(
    published: Any, asked: list[str]
) -> None:
    trained = in_training(published, asked)
    assert len(trained) == COUNT
    assert len(set(trained)) > COUNT / 3  # they do tell the texts apart
    served = in_gateway(published.models, asked)
    device = list(on_device(published.outcome.edge[0], asked))
    for place, text in enumerate(asked):
        assert trained[place] == served[place] == device[place], repr(text)
