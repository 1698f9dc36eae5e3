"""Laws of registration: transformers' own lines give our models, and no import becomes slow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from finetune.deepseek import auto, checkpoint
from finetune.errors import ModelError
from finetune.pretrained import Pretrained

GOLDEN = Path(__file__).parent / "golden"
LABELS = {0: "bad", 1: "fine", 2: "good"}
IDS = tf.constant([[5, 3, 9, 60, 1]])
INPUTS = {"input_ids": IDS, "attention_mask": tf.ones_like(IDS)}


class CustomHead(tf_keras.layers.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.dense = tf_keras.layers.Dense(3)

    def call(self, features: Any) -> Any:
        return self.dense(tf.nn.relu(features))


@pytest.mark.parametrize("variant", ["llama", "qwen2", "v2", "v3"])
def test_auto_classes_give_our_models(variant: str) -> None:
    from transformers import TFAutoModelForCausalLM

    model = TFAutoModelForCausalLM.from_pretrained(str(GOLDEN / variant))
    assert isinstance(model, auto.DeepseekForCausalLM)
    expected = checkpoint.from_pretrained(GOLDEN / variant)
    np.testing.assert_array_equal(model(INPUTS).logits, expected(INPUTS).logits)


def test_a_classifier_knows_its_labels_and_takes_a_custom_head(tmp_path: Path) -> None:
    from transformers import AutoConfig, TFAutoModelForSequenceClassification

    model = TFAutoModelForSequenceClassification.from_pretrained(
        str(GOLDEN / "v3"),
        num_labels=3,
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
    )
    assert model.config.id2label == LABELS
    assert model.config.label2id == {"bad": 0, "fine": 1, "good": 2}
    own = model(INPUTS).logits
    model.save_pretrained(tmp_path)
    again = TFAutoModelForSequenceClassification.from_pretrained(str(tmp_path))
    np.testing.assert_array_equal(again(INPUTS).logits, own)
    assert again.config.id2label == LABELS
    assert AutoConfig.from_pretrained(str(tmp_path)).id2label == LABELS

    model.classifier = CustomHead()
    assert model(INPUTS).logits.shape == (1, 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(INPUTS, training=True).logits ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(each is not None for each in gradients)
    assert model.classifier.dense.kernel is model.trainable_variables[-2]


def test_a_saved_language_model_is_loaded_alike(tmp_path: Path) -> None:
    from transformers import TFAutoModelForCausalLM

    model = TFAutoModelForCausalLM.from_pretrained(str(GOLDEN / "v2-lite"))
    model.save_pretrained(tmp_path)
    again = TFAutoModelForCausalLM.from_pretrained(str(tmp_path))
    np.testing.assert_array_equal(again(INPUTS).logits, model(INPUTS).logits)


def test_transformers_reference_can_be_asked_for() -> None:
    from transformers import TFAutoModelForCausalLM

    model = TFAutoModelForCausalLM.from_pretrained(str(GOLDEN / "v3"), reference="transformers")
    assert model.config.experts.outside == 0


def test_an_argument_that_is_not_known_is_named() -> None:
    from transformers import TFAutoModelForCausalLM

    with pytest.raises(ModelError, match="from_pretrained: load_in_8bit: not known here"):
        TFAutoModelForCausalLM.from_pretrained(str(GOLDEN / "v3"), load_in_8bit=True)


def test_other_models_are_still_loaded(tiny_base: Path) -> None:
    model = Pretrained(str(tiny_base)).load("TFAutoModelForSequenceClassification", ("a", "b"))
    assert model.config.model_type == "bert"


def test_the_family_is_loaded_without_transformers(tmp_path: Path, tokenizer_json: bytes) -> None:
    """In another process: importing it loads neither that nor TensorFlow; loading, TensorFlow."""
    folder = Path(shutil.copytree(GOLDEN / "qwen2", tmp_path / "base"))
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    script = f"""
import json, sys
import finetune.deepseek
first = sorted({{"transformers", "tensorflow"}} & sys.modules.keys())
from finetune.pretrained import Pretrained
Pretrained({str(folder)!r}).load("TFAutoModelForCausalLM")
second = sorted({{"transformers", "tensorflow"}} & sys.modules.keys())
from transformers import TFAutoModelForCausalLM
model = TFAutoModelForCausalLM.from_pretrained({str(folder)!r})
print(json.dumps([first, second, type(model).__name__]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == [[], ["tensorflow"], "DeepseekForCausalLM"]
