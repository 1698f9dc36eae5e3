"""Laws of models from scratch: the same from the same texts, any text readable, sizes as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from finetune import recipe
from finetune.deepseek import checkpoint
from finetune.errors import RecipeError
from finetune.scratch import Scratch, train_tokenizer

TEXTS = ["a very good film", "an awful, dull plot", "good acting and a good plot"] * 20
SETTINGS = recipe.Scratch(layers=2, hidden=16, heads=2, vocabulary=300)


def scratch(**changes: Any) -> Scratch:
    settings = SETTINGS.model_copy(update=changes)
    return Scratch(settings, lambda: TEXTS, positions=8, frames=True)


def test_the_same_texts_make_the_same_tokenizer() -> None:
    assert scratch().tokenizer_json == scratch().tokenizer_json
    assert scratch().sha256 == scratch().sha256 != scratch(layers=1).sha256


@given(st.text(max_size=40))
def test_no_text_is_unknown_and_none_is_changed(text: str) -> None:
    tokenizer = Tokenizer.from_str(train_tokenizer(TEXTS, 300, frames=False))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_framed_text_has_its_ends() -> None:
    tokenizer = Tokenizer.from_buffer(scratch().tokenizer_json)
    tokens = tokenizer.encode("a good film").tokens
    assert (tokens[0], tokens[-1]) == ("<s>", "</s>")
    assert tokenizer.token_to_id("<pad>") == 0


def test_models_have_the_sizes_of_the_recipe() -> None:
    token = tf.ones([1, 8], tf.int32)
    encoder = scratch().load("TFAutoModelForSequenceClassification", ("a", "b", "c"))
    assert encoder(token).logits.shape == (1, 3)
    assert encoder.config.num_hidden_layers == 2
    decoder = scratch().load("TFAutoModelForCausalLM")
    known = Tokenizer.from_buffer(scratch().tokenizer_json).get_vocab_size()
    assert 260 < known <= 300
    assert decoder(token).logits.shape == (1, 8, known)
    assert decoder.config.n_embd == 16
    assert np.isfinite(decoder(token).logits.numpy()).all()


def test_a_deepseek_decoder_has_experts_after_its_first_block_and_can_be_saved(
    tmp_path: Path,
) -> None:
    made = scratch(layers=3, experts=5, decoder="deepseek_v3")
    model = made.load("TFAutoModelForCausalLM")
    ids = tf.constant([[5, 9, 7]])
    logits = model({"input_ids": ids, "attention_mask": tf.ones_like(ids)}).logits.numpy()
    assert [model.config.has_experts(block) for block in range(3)] == [False, True, True]
    assert model.model.layers[1].mlp.gate_proj.kernel.shape == (5, 16, 8)
    checkpoint.save_pretrained(model, tmp_path)
    again = checkpoint.from_pretrained(tmp_path)
    found = again({"input_ids": ids, "attention_mask": tf.ones_like(ids)}).logits.numpy()
    np.testing.assert_array_equal(found, logits)
    with pytest.raises(RecipeError, match=r"scratch\.heads: 8 leave a head .* fewer than 4"):
        scratch(heads=8, decoder="deepseek_v3")


def test_heads_must_divide_the_hidden_units() -> None:
    with pytest.raises(RecipeError, match=r"scratch\.hidden: 16 is no multiple of .*heads 3"):
        scratch(heads=3)
