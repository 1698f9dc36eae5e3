"""Laws of language models compared: sequence by sequence, by chance or not, each limit alone; and a
refresh of one publishes what thinks the test split likelier."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.repository import ModelRepository
from finetune import pipeline, trainer
from finetune.errors import RecipeError
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.refresh import job, likelihood
from finetune.refresh.likelihood import Likelihood
from finetune.refresh.settings import Checks, Limits, Refresh

WORDS = "the film was very good but the plot was awful and dull".split()
LENIENT = Limits(max_rise=1, max_new_rise=1, significance=1e-9)


def of(*lost: float) -> Likelihood:
    """A challenger that loses so many nats on sequences of 10 tokens and 20 nats."""
    champion = np.full(len(lost), 20.0)
    return likelihood.compare(champion, champion + lost, np.full(len(lost), 10))


def test_perplexities_are_of_all_tokens_and_p_of_the_sequences() -> None:
    found = of(1, 1, 1, 1)
    assert (found.sequences, found.tokens, found.harder) == (4, 40, 4)
    assert found.champion == pytest.approx(np.exp(2))
    assert found.rise == pytest.approx(np.exp(0.1) - 1)
    assert found.p_worse == pytest.approx(1 / 16, abs=0.01)  # every one of four coins
    assert of(-1, -1, -1, -1).p_worse == pytest.approx(1, abs=0.01)
    assert of(0, 0).p_worse == 1


@pytest.mark.parametrize(
    ("limits", "holdout", "new", "said"),
    [
        (LENIENT.model_copy(update={"max_rise": 0.01}), of(1, 0), None, "limits.max_rise"),
        (LENIENT.model_copy(update={"significance": 0.05}), of(*[0.1] * 9), None, "significance"),
        (LENIENT.model_copy(update={"max_new_rise": 0.0}), of(-1), of(0.1), "limits.max_new_rise"),
    ],
)
def test_each_limit_refuses_alone(
    limits: Limits, holdout: Likelihood, new: Likelihood | None, said: str
) -> None:
    (fault,) = likelihood.faults(holdout, new, limits)
    assert said in fault
    assert likelihood.faults(of(-1, -1), of(0), Limits()) == []


@pytest.fixture
def recipe(tmp_path: Path, tokenizer_json: bytes) -> Recipe:
    """Of a model that has seen the words in no order; in the test split they have one."""
    import tensorflow as tf
    from transformers import GPT2Config, TFGPT2LMHeadModel

    base = tmp_path / "base"
    tokens = json.loads(tokenizer_json)["model"]["vocab"]
    sizes = {"n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    end = tokens["[SEP]"]
    model = TFGPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokens), bos_token_id=end, eos_token_id=end, **sizes)
    )
    model(tf.ones([1, 1], tf.int32))  # makes the weights
    model.save_pretrained(base, safe_serialization=True)
    (base / "tokenizer.json").write_bytes(tokenizer_json)
    generator = random.Random(0)  # noqa: S311 (no secret)
    for name, count in (("train", 16), ("dev", 4), ("test", 8)):
        texts = [ordered(10 * place) for place in range(count)]
        if name == "train":
            texts = [" ".join(generator.sample(text.split(), 14)) for text in texts]
        write(tmp_path / f"{name}.jsonl", texts)
    (tmp_path / "new").mkdir()
    data = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "dev", "test")}
    return Recipe.model_validate(
        {
            "name": "writer",
            "task": "text-generation",
            "base_model": str(base),
            "data": {**data, "buckets": [16], "batch_size": 4},
            "optimizer": {"learning_rate": 0.01},
            "schedule": {"epochs": 1},
            "precision": "float32",
            "edge": {"profiles": []},
            "refresh": Refresh(
                data=tmp_path / "new",
                start="champion",
                checks=Checks(min_examples=4, max_copies=1),
                limits=Limits(significance=0.01),
            ),
        }
    )


def ordered(number: int) -> str:
    """A text of 14 words that no other number gives."""
    marks = [(".", ",", "!")[number // 3**place % 3] for place in range(6)]
    words = [WORDS[(number + place) % len(WORDS)] for place in range(8)]
    return " ".join(
        word for pair in zip(words, [*marks, "", ""], strict=True) for word in pair if word
    )


def write(path: Path, texts: list[str]) -> None:
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts))


def test_what_thinks_the_test_split_likelier_is_published(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    pipeline.run(recipe, models=models, runs=tmp_path / "runs", progress=Silent())
    write(tmp_path / "new" / "monday.jsonl", [ordered(10 * place + 1) for place in range(60)])
    started: list[Path] = []  # the recipe says: from the champion's weights

    def observed(*arguments: Any, start: Path, **named: Any) -> Any:
        started.append(start)
        return train(*arguments, start=start, **named)

    train = trainer.train
    monkeypatch.setattr(trainer, "train", observed)
    report = job.run(recipe, models=models, progress=Silent())
    assert started == [models / "writer" / "1" / "variables" / "variables"]
    assert (report.verdict, report.version, report.holdout) == ("published", 2, None)
    assert report.likelihood is not None
    assert report.new_likelihood is not None
    assert report.likelihood.challenger < report.likelihood.champion
    assert report.findings is not None
    assert report.findings.labels == {"text": 60}
    assert ModelRepository(models).versions("writer") == [1, 2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"refresh": {"logs": "logs"}}, r"refresh\.logs"),
        ({"base_model": None, "scratch": {}}, "the tokenizer is learnt anew"),
    ],
)
def test_what_can_not_be_compared_or_learnt_is_refused(
    recipe: Recipe, changes: dict[str, Any], said: str
) -> None:
    from finetune import recipe as recipes

    content = recipe.model_dump(mode="json") | changes
    with pytest.raises(RecipeError, match=said):
        recipes.parse(content, "recipe.yaml")
