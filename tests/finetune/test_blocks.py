"""Laws of depth: what comes before the blocks is 0, each block its number, the head beyond."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from finetune import blocks


def depth_by_name(model: Any) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for variable, depth in zip(model.trainable_variables, blocks.depths(model), strict=True):
        found.setdefault(depth, set()).add(variable.name)
    return found


def test_an_encoder_has_embeddings_blocks_and_head() -> None:
    from transformers import BertConfig, TFBertForSequenceClassification

    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(vocab_size=9, num_hidden_layers=3, max_position_embeddings=8, **sizes)
    model = TFBertForSequenceClassification(config)
    model(tf.ones([1, 1], tf.int32))
    found = depth_by_name(model)
    assert sorted(found) == [0, 1, 2, 3, 4]
    assert all("embeddings" in name for name in found[0])
    for block in (1, 2, 3):
        assert all(f"layer_._{block - 1}/" in name for name in found[block])
    assert all("classifier" in name or "pooler" in name for name in found[4])


def test_a_decoder_has_its_embeddings_first_and_its_last_norm_in_the_head() -> None:
    from transformers import GPT2Config, TFGPT2LMHeadModel

    model = TFGPT2LMHeadModel(
        GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=1, n_positions=8)
    )
    model(tf.ones([1, 1], tf.int32))
    found = depth_by_name(model)
    assert all("wte" in name or "wpe" in name for name in found[0])
    assert all("ln_f" in name for name in found[3])
    assert list(blocks.members(model)) == ["embeddings", "block_1", "block_2", "head"]


def test_every_variable_is_in_one_part(task: Any) -> None:
    model = task.build_model()
    places = [place for part in blocks.members(model).values() for place in part]
    assert sorted(places) == list(range(len(model.trainable_variables)))


def test_a_model_without_blocks_is_one_part() -> None:
    model = tf_keras.Sequential([tf_keras.layers.Dense(2)])
    model(tf.ones([1, 2]))
    layer = model.layers[0]
    assert blocks.depths(layer) == [0, 0]
    assert blocks.members(layer) == {"embeddings": [0, 1]}
