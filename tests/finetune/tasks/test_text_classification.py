"""Laws of the task: a base model fits the recipe, or one error says what is wrong with it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import tasks
from finetune.data import convert
from finetune.data.convert import Conversion
from finetune.errors import DataError, ModelError, RecipeError
from finetune.head import ClassificationHead
from finetune.progress import Silent
from finetune.recipe import Recipe
from finetune.tasks.base import TaskData
from finetune.tasks.text_classification import TextClassification


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of the base model that a test may break."""
    return Path(shutil.copytree(tiny_base, tmp_path / "base"))


@pytest.fixture
def refused(base: Path, tiny_recipe: Any) -> Callable[..., None]:
    def check(expected: str, *overrides: str) -> None:
        recipe = tiny_recipe(f"base_model={base}", *overrides)
        with pytest.raises(ModelError, match=expected) as caught:
            TextClassification(recipe).build_model()
        assert "\n" not in str(caught.value)

    return check


def configure(base: Path, **changes: Any) -> None:
    path = base / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_recipe_names_the_task(recipe: Recipe) -> None:
    assert isinstance(tasks.create(recipe), TextClassification)


def test_the_model_has_pretrained_weights_and_the_recipes_head(task: TextClassification) -> None:
    model, again = task.build_model(), task.build_model()
    assert isinstance(model.classifier, ClassificationHead)
    assert [variable.name for variable in model.trainable_variables[-4:]] == [
        variable.name for variable in model.classifier.trainable_variables
    ]
    for mine, same in zip(model.trainable_variables, again.trainable_variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), same.numpy())


def test_logits_are_float32_and_need_no_padding_to_agree(task: TextClassification) -> None:
    model = task.build_model()
    short = task.preprocessor.pad(task.preprocessor.encode(["a good film"]), 8)
    long = task.preprocessor.pad(task.preprocessor.encode(["a good film"]), 16)
    first, second = (task.logits(model, batch, training=False) for batch in (short, long))
    assert (first.shape, first.dtype) == ((1, 2), tf.float32)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_the_loss_is_cross_entropy(task: TextClassification) -> None:
    logits = tf.constant([[0.0, np.log(3.0)], [0.0, 0.0]])
    loss = task.loss(logits, {"labels": tf.constant([1, 0])})
    np.testing.assert_allclose(loss, [np.log(4 / 3), np.log(2)], rtol=1e-5)


def test_data_is_checked_encoded_and_hashed(task: TextClassification, data: TaskData) -> None:
    assert [len(part) for part in (data.train, data.dev, data.test)] == [192, 32, 96]
    (ids,) = task.preprocessor.encode([data.test.texts[5]])
    assert data.test.ids[5].tolist() == ids.tolist()
    assert task.load_data().sha256 == data.sha256
    assert len(data.sha256) == len(data.test_sha256) == 64


def test_the_hash_of_the_data_is_of_its_content_in_its_role(
    tiny_data: Path, tiny_recipe: Any, data: TaskData, tmp_path: Path
) -> None:
    copy = shutil.copytree(tiny_data, tmp_path / "copy")
    paths = [f"data.{name}={copy / name}.jsonl" for name in ("train", "dev", "test")]
    assert TextClassification(tiny_recipe(*paths)).load_data().sha256 == data.sha256
    swapped = [f"data.dev={copy / 'test.jsonl'}", f"data.test={copy / 'dev.jsonl'}"]
    assert TextClassification(tiny_recipe(*swapped)).load_data().sha256 != data.sha256


def test_a_text_that_serving_would_refuse_is_refused_as_data(
    tiny_recipe: Any, tmp_path: Path
) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text('{"text": "good", "label": 1}\n{"text": "good good", "label": 1}\n')
    recipe = tiny_recipe(f"data.dev={path}", "data.max_characters=5")
    broken = tiny_recipe(f"data.train={path}", "data.max_characters=5")
    for wrong in (recipe, broken):
        with pytest.raises(DataError, match="the limit is 5"):
            TextClassification(wrong).load_data()


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_changed_file_makes_another_base_model(base: Path, tiny_recipe: Any, file: str) -> None:
    recipe = tiny_recipe(f"base_model={base}")
    before = TextClassification(recipe).base_model_sha256
    (base / file).write_text((base / file).read_text() + "\n")
    assert TextClassification(recipe).base_model_sha256 != before


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(base: Path, refused: Callable[..., None], file: str) -> None:
    (base / file).unlink()
    refused(f"base_model .*base: {file}: No such file or directory; add the file")


def test_missing_weights_are_named(base: Path, refused: Callable[..., None]) -> None:
    (base / "model.safetensors").unlink()
    refused(r"no \*\.safetensors or \*\.h5 weights; add them")


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_damaged_weights_are_named(
    base: Path, refused: Callable[..., None], content: bytes
) -> None:
    (base / "model.safetensors").write_bytes(content)
    refused("^base_model .*base: .*header.*Use a whole checkpoint")


def test_cut_weights_are_named(base: Path, refused: Callable[..., None]) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    refused("^base_model .*base: .*not fully covered.*Use a whole checkpoint")


def test_weights_of_fewer_layers_than_the_configuration_are_refused(
    base: Path, refused: Callable[..., None]
) -> None:
    """The others would be random, and no error would ever tell."""
    configure(base, num_hidden_layers=2)
    refused(r"its weights lack bert/encoder/layer_\._1/.* and 15 more")


def test_weights_of_another_size_are_refused(base: Path, refused: Callable[..., None]) -> None:
    configure(base, hidden_size=32)
    refused("^base_model .*base: .*Use a whole checkpoint")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "config.json: not JSON"),
        ("[]", "config.json: must be an object"),
        ("{}", "Should have a `model_type` key"),
        ('{"model_type": "mamba"}', "Unrecognized configuration class"),
    ],
)
def test_a_configuration_that_cant_be_used_is_named(
    base: Path, refused: Callable[..., None], content: str, expected: str
) -> None:
    (base / "config.json").write_text(content)
    refused(expected)


def test_a_broken_tokenizer_is_named(base: Path, refused: Callable[..., None]) -> None:
    (base / "tokenizer.json").write_text("{}")
    refused(r"^base_model .*base: tokenizer\.json: not a tokenizers file")


def test_a_bucket_longer_than_the_model_reads_is_refused(refused: Callable[..., None]) -> None:
    refused(r"data\.buckets: 17 tokens are more than the 16 that", "data.buckets=[8, 17]")


def test_a_bucket_without_room_for_a_word_is_refused(refused: Callable[..., None]) -> None:
    refused("buckets: 2 tokens hold nothing beside the 2 special", "data.buckets=[2]")


def test_a_classifier_that_pools_is_replaced_by_a_head_that_pools(
    tmp_path: Path, tokenizer_json: bytes, tiny_recipe: Any
) -> None:
    """RoBERTa's takes the first token of the whole sequence."""
    from transformers import RobertaConfig, TFRobertaForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = TFRobertaForSequenceClassification(
        RobertaConfig(vocab_size=23, intermediate_size=8, max_position_embeddings=20, **sizes)
    )
    model(tf.ones([1, 1], tf.int32))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    task = TextClassification(tiny_recipe(f"base_model={tmp_path}"))
    check_head(task, task.build_model())


def test_a_decoder_is_read_at_the_last_token(
    tmp_path: Path, tokenizer_json: bytes, tiny_recipe: Any
) -> None:
    """GPT-2 scores each token; padding must not move the one that counts."""
    from transformers import GPT2Config, TFGPT2ForSequenceClassification

    model = TFGPT2ForSequenceClassification(
        GPT2Config(vocab_size=23, n_embd=8, n_layer=1, n_head=1, n_positions=20, pad_token_id=0)
    )
    model(tf.ones([1, 1], tf.int32))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    task = TextClassification(tiny_recipe(f"base_model={tmp_path}"))
    check_head(task, task.build_model())


def test_a_model_without_a_known_classifier_is_refused(
    tmp_path: Path, tokenizer_json: bytes, tiny_recipe: Any
) -> None:
    from transformers import TFXLNetForSequenceClassification, XLNetConfig

    model = TFXLNetForSequenceClassification(
        XLNetConfig(vocab_size=23, d_model=8, n_layer=1, n_head=1, d_inner=8)
    )
    model(tf.ones([1, 1], tf.int32))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json)
    with pytest.raises(ModelError, match=r"TFXLNet.* has no classifier that can be replaced"):
        TextClassification(tiny_recipe(f"base_model={tmp_path}")).build_model()


def check_head(task: TextClassification, model: Any) -> None:
    """The recipe's head answers, and the same whatever the padding."""
    texts = ["a very good film"]
    (ids,) = task.preprocessor.encode(texts)
    short, long = (task.preprocessor.pad([ids], length) for length in (8, 16))
    answer = task.answer(model, short).numpy()
    assert answer.shape == (1, 2)
    np.testing.assert_allclose(task.answer(model, long).numpy(), answer, atol=1e-5)
    heads = [each for each in model.submodules if isinstance(each, ClassificationHead)]
    assert len(heads) == 1
    known = {id(variable) for variable in model.trainable_variables}
    assert all(id(variable) in known for variable in heads[0].trainable_variables)


def test_a_model_that_is_nowhere_is_named(
    tiny_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("no-such-owner/no-such-model", "no/such/folder"):
        with pytest.raises(ModelError, match=f"base_model '{name}': no such folder, and the hub"):
            TextClassification(tiny_recipe(f"base_model={name}"))


def test_noise_is_on_training_texts_only_and_new_in_each_epoch(tiny_recipe: Any) -> None:
    plain = TextClassification(tiny_recipe())
    noisy = TextClassification(tiny_recipe("augment.swap=0.5", "augment.delete=0.2"))
    data = noisy.load_data()

    def ids(task: TextClassification, epoch: int) -> list[Any]:
        found = task.training_batches(data, epoch, 1)
        return sorted(row.tolist() for batch in found for row in batch["input_ids"].numpy())

    assert ids(noisy, 0) == ids(noisy, 0)
    assert ids(noisy, 0) != ids(noisy, 1)
    assert ids(noisy, 0) != ids(plain, 0) == ids(plain, 1)
    assert noisy.steps(data, 0) == sum(1 for _ in noisy.training_batches(data, 0, 1))
    assert [row.tolist() for row in data.dev.ids] == [
        row.tolist() for row in plain.load_data().dev.ids
    ]


def test_masks_need_a_tokenizer_that_has_one(tiny_recipe: Any) -> None:
    task = TextClassification(tiny_recipe("augment.mask=0.1"))
    with pytest.raises(RecipeError, match=r"augment\.mask .* no mask token"):
        task.training_batches(task.load_data(), 0, 1)


def test_csv_and_shards_give_the_data_that_json_lines_do(
    tiny_recipe: Any, tiny_data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    expected = TextClassification(recipe).load_data()
    overrides = ["data.text_column=said", "data.label_column=mood"]
    for name in ("train", "dev", "test"):
        path = tiny_data / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("said", "mood"), *((row["text"], row["label"]) for row in rows)])
        overrides.append(f"data.{name}={tmp_path / name}.csv")
    shards = Conversion(source=tiny_data / "train.jsonl", target=tmp_path / "train", shards=1)
    convert.run(shards, Silent())
    for given in (overrides, [*overrides, f"data.train={tmp_path / 'train'}"]):
        found = TextClassification(tiny_recipe(*given)).load_data()
        for part, other in ((found.train, expected.train), (found.test, expected.test)):
            assert [row.tolist() for row in part.ids] == [row.tolist() for row in other.ids]
            assert part.labels.tolist() == other.labels.tolist()
