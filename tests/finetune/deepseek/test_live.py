"""Law, where PyTorch is installed: what we save it loads, and answers alike; and the other way.

Elsewhere the golden folders prove it: `test_checkpoint` holds our files equal to PyTorch's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune import recipe
from finetune.deepseek import adapter, checkpoint
from finetune.deepseek.lora import Adapters

torch = pytest.importorskip("torch")
GOLDEN = Path(__file__).parent / "golden"
IDS = np.random.default_rng(0).integers(1, 61, [2, 11])
# V2's and V3's own differences from transformers are proved in `test_parity`.
VARIANTS = ("llama", "llama3-rope", "qwen2", "v2-lite", "v2", "v3", "v3-yarn")


def ours(model: Any) -> Any:
    ids = tf.constant(IDS, tf.int32)
    return model({"input_ids": ids, "attention_mask": tf.ones_like(ids)}).logits.numpy()


def theirs(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(torch.tensor(IDS)).logits.numpy()


def moved(variant: str) -> Any:
    """A checkpoint of ours that training has changed."""
    model = checkpoint.from_pretrained(GOLDEN / variant, reference="transformers")
    for seed, variable in enumerate(model.trainable_variables):
        variable.assign_add(tf.random.stateless_normal(variable.shape, [seed, 0], stddev=0.02))
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_pytorch_loads_what_we_save_and_we_load_what_it_saves(variant: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = moved(variant)
    checkpoint.save_pretrained(model, tmp_path / "ours")
    loaded, told = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(told.values()), told
    np.testing.assert_allclose(theirs(loaded), ours(model), atol=2e-4)
    loaded.save_pretrained(tmp_path / "theirs")
    again = checkpoint.from_pretrained(tmp_path / "theirs", reference="transformers")
    np.testing.assert_array_equal(ours(again), ours(model))


def test_pytorch_loads_a_classifier_with_its_labels(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = checkpoint.from_pretrained(GOLDEN / "qwen2", ("a", "b", "c"))
    checkpoint.save_pretrained(model, tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"pad_token_id": 0}))
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "a", 1: "b", 2: "c"}
    np.testing.assert_allclose(theirs(loaded), ours(model), atol=2e-4)


@pytest.mark.parametrize("variant", ["qwen2", "v3"])
def test_peft_loads_our_adapter(variant: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = checkpoint.from_pretrained(GOLDEN / variant, reference="transformers")
    targets = ("o_proj", "gate_proj", "up_proj", "down_proj")
    adapters = Adapters(model, recipe.Lora(rank=3, alpha=5.0, dropout=0.1, targets=targets))
    for seed, path in enumerate(adapters):
        path.lora_b.assign(tf.random.stateless_normal(path.lora_b.shape, [seed, 1], stddev=0.1))
    adapter.save(model, adapters, str(GOLDEN / variant), tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(GOLDEN / variant, attn_implementation="eager")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    np.testing.assert_allclose(theirs(loaded), ours(model), atol=2e-4)
    merged = loaded.merge_and_unload()
    adapters.merge()
    checkpoint.save_pretrained(model, tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", attn_implementation="eager")
    np.testing.assert_allclose(theirs(again), theirs(merged), atol=2e-4)
