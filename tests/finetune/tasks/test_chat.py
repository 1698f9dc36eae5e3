"""Laws of learning from conversations: answers alone count, and packing changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from finetune import evaluate, pipeline
from finetune.errors import DataError, ModelError, RecipeError
from finetune.progress import Silent
from finetune.recipe import Recipe, parse
from finetune.tasks.text_generation import TextGeneration

V3 = Path(__file__).parents[1] / "deepseek" / "golden" / "v3"
# Every token of it is a word that the tiny tokenizer knows.
TEMPLATE = (
    "{% for m in messages %}{{ ('and ' if m.role == 'assistant' else 'but ') + m.content + ' . ' }}"
    "{% endfor %}"
)
RIGHT = {"film": "very good", "plot": "dull", "actor": "great great great"}


def talk(*nouns: str) -> dict[str, Any]:
    turns = [(("user", f"the {noun}"), ("assistant", RIGHT[noun])) for noun in nouns]
    return {"messages": [{"role": role, "content": text} for pair in turns for role, text in pair]}


@pytest.fixture(scope="module")
def chat_recipe(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> Any:
    """Makes a recipe over a tiny V3 checkpoint with a chat template; arguments are its sections."""
    folder = tmp_path_factory.mktemp("chat")
    base = Path(shutil.copytree(V3, folder / "base"))
    (base / "tokenizer.json").write_bytes(tokenizer_json)
    (base / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    talks = [talk(*nouns) for nouns in (("film",), ("plot", "film"), ("actor",), ("plot",))]
    for name, count in (("train", 40), ("dev", 4), ("test", 4)):
        lines = [json.dumps(talks[place % 4]) for place in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))

    def make(*, data: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        content: dict[str, Any] = {
            "name": "talker",
            "task": "text-generation",
            "base_model": str(base),
            "data": {
                **{name: str(folder / f"{name}.jsonl") for name in ("train", "dev", "test")},
                "format": "chat",
                "buckets": [8, 24],
                "batch_size": 4,
                **(data or {}),
            },
            "optimizer": {"learning_rate": 0.01},
            "precision": "float32",
            "edge": {"profiles": []},
        }
        return parse(content | changes, "recipe")

    return make


def test_only_answers_are_to_be_predicted(chat_recipe: Any) -> None:
    task = TextGeneration(chat_recipe())
    data = task.load_data()
    for text, counted in zip(data.test.texts, data.test.counted, strict=True):
        words = text.split()
        taught = [word for word, one in zip(words, counted, strict=True) if one]
        assert " ".join(taught).split(" .")[:-1] == [
            f"{' ' * bool(place)}{RIGHT[noun]}"
            for place, noun in enumerate(word for word in words if word in RIGHT)
        ]
    model = task.build_model()
    result = evaluate.likelihood(task, model, data.test, progress=Silent(), title="")
    assert result.tokens.tolist() == [counted.sum() for counted in data.test.counted]


def losses(task: TextGeneration, model: Any) -> tuple[float, float]:
    """Summed over an epoch, and how many tokens that were."""
    data = task.load_data()
    total, count = 0.0, 0.0
    for batch in task.training_batches(data, 0, 1):
        weights = task.weights(batch)
        found = task.loss(task.logits(model, batch, training=True), batch) * weights
        total += float(tf.reduce_sum(found))
        count += float(tf.reduce_sum(weights))
    return total, count


def test_packed_conversations_have_the_losses_of_separate_ones(chat_recipe: Any) -> None:
    alone, packed = (
        TextGeneration(chat_recipe(data={"packing": packing})) for packing in (False, True)
    )
    assert len(packed.load_data().train) < 0.6 * len(alone.load_data().train)
    model = alone.build_model()
    expected, found = losses(alone, model), losses(packed, model)
    assert found[1] == expected[1] == 10 * (3 + 2 + 3 + 4 + 2)
    assert found[0] == pytest.approx(expected[0], rel=1e-5)


def test_packed_documents_are_kept_apart(chat_recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    texts = ["the film", "a very good plot", " ".join(["dull"] * 30)]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    plain = {"format": "plain", "packing": True} | dict.fromkeys(("train", "dev"), str(path))
    task = TextGeneration(chat_recipe(data=plain | {"test": str(path)}))
    data = task.load_data()
    # Words and an end; the long one in two pieces that share a token.
    assert [len(ids) for ids in data.test.ids] == [3, 5, 24, 8]
    assert [len(ids) for ids in data.train.ids] == [24, 16]
    assert data.train.segments[1].tolist() == [1] * 8 + [2] * 5 + [3] * 3


def test_an_adapter_learns_to_answer(chat_recipe: Any, tmp_path: Path) -> None:
    """With packing, accumulation and recomputation, from conversations to a published model."""
    outcome = pipeline.run(
        chat_recipe(
            data={"packing": True, "batch_size": 2},
            lora={"rank": 8, "targets": ["q_b_proj", "kv_b_proj", "o_proj", "down_proj"]},
            schedule={"epochs": 12, "micro_batches": 2},
            memory={"gradient_checkpointing": True},
            optimizer={"learning_rate": 0.03},
        ),
        models=tmp_path / "m",
        runs=tmp_path / "r",
        progress=Silent(),
    )
    perplexity = outcome.saved.manifest.metrics["perplexity"]
    assert perplexity.value < 1.6  # what the answers' own tokens leave to chance is nothing
    (folder,) = (tmp_path / "r" / "talker").iterdir()
    assert {path.name for path in (folder / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_conversation_whose_answer_is_cut_off_is_named(chat_recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(
        json.dumps(talk("film")) + "\n" + json.dumps(talk("film")).replace("the", "a " * 40)
    )
    with pytest.raises(
        DataError, match=r"long\.jsonl, line 2: no answer begins within .* 24 tokens"
    ):
        TextGeneration(chat_recipe(data={"dev": str(path)})).load_data()


def test_what_does_not_fit_is_named(chat_recipe: Any, tiny_base: Path, tiny_data: Path) -> None:
    with pytest.raises(
        ModelError, match=r"data\.packing: .* can't keep the texts of a block apart"
    ):
        TextGeneration(
            chat_recipe(base_model=str(tiny_base), data={"packing": True, "buckets": [8]})
        )
    with pytest.raises(ModelError, match="has no chat template"):
        TextGeneration(chat_recipe(base_model=str(tiny_base), data={"buckets": [8]})).load_data()
    with pytest.raises(RecipeError, match=r"data\.format: a model from scratch has no chat"):
        chat_recipe(base_model=None, scratch={})
    with pytest.raises(DataError, match=r"for `messages`, set data\.format to chat"):
        TextGeneration(chat_recipe(data={"format": "plain"})).load_data()
