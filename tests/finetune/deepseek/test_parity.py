"""Law: every variant answers as PyTorch transformers does, where that follows DeepSeek's own code.

The golden folders are written by `make_golden.py` beside this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import checkpoint, config
from finetune.deepseek.decoder import CausalLM

GOLDEN = Path(__file__).parent / "golden"
YARN = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
VARIANTS = (
    "llama",
    "llama3-rope",
    "qwen2",
    "v2-lite",
    "v2",
    "v3",
    "v3-yarn",
    "v2-yarn",
    "qwen2-window",
)


@pytest.fixture(params=VARIANTS)
def golden(request: pytest.FixtureRequest) -> tuple[Path, Any]:
    folder = GOLDEN / request.param
    return folder, np.load(folder / "golden.npz")


def test_logits_are_the_references_over_padded_batches(golden: tuple[Path, Any]) -> None:
    folder, expected = golden
    model = checkpoint.from_pretrained(folder)
    mask = expected["attention_mask"]
    inputs = {"input_ids": expected["input_ids"], "attention_mask": mask}
    logits = model({name: tf.constant(each) for name, each in inputs.items()}).logits.numpy()
    read = mask.astype(bool)
    np.testing.assert_allclose(logits[read], expected["logits"][read], atol=2e-4)


def test_greedy_text_is_the_references(golden: tuple[Path, Any]) -> None:
    folder, expected = golden
    model = checkpoint.from_pretrained(folder)

    @tf.function(reduce_retracing=True)
    def following(ids: Any) -> Any:
        logits = model({"input_ids": ids, "attention_mask": tf.ones_like(ids)}).logits
        return tf.argmax(logits[:, -1], axis=-1, output_type=tf.int32)

    whole = expected["greedy"]
    ids = tf.constant(whole[:, :9])
    while ids.shape[1] < whole.shape[1]:
        ids = tf.concat([ids, following(ids)[:, None]], axis=1)
    np.testing.assert_array_equal(ids.numpy(), whole)


@pytest.mark.parametrize("reference", ["deepseek", "transformers"])
def test_yarn_in_v2_is_as_the_reference_has_it(reference: config.Reference) -> None:
    """transformers leaves the factor of the scores out."""
    folder = GOLDEN / "v2"
    known = np.load(folder / "golden.npz")
    content = json.loads((folder / "config.json").read_text()) | {"rope_scaling": YARN}
    model = CausalLM(config.parse(content, reference))
    checkpoint.fill(model, folder)
    read = known["attention_mask"].astype(bool)
    inputs = {name: tf.constant(known[name]) for name in ("input_ids", "attention_mask")}
    found = model(inputs).logits.numpy()[read]
    expected = np.load(folder / "transformers.npz")["logits"][read]
    if reference == "transformers":
        np.testing.assert_allclose(found, expected, atol=2e-4)
    else:
        assert np.abs(found - expected).max() > 0.01


@pytest.mark.parametrize("reference", ["deepseek", "transformers"])
def test_negative_preferences_in_v3_are_as_the_reference_has_them(
    reference: config.Reference,
) -> None:
    """They lose to the 0 that transformers gives the experts outside of the best groups."""
    gate = checkpoint.from_pretrained(GOLDEN / "v3", reference=reference).model.layers[1].mlp.gate
    gate.bias.assign(tf.fill(gate.bias.shape, -2.0))
    scores = tf.constant(np.random.default_rng(0).uniform(size=(100, 8)), tf.float32)
    chosen = gate.choose(scores).numpy() // 2  # groups of two
    best = np.argsort(scores.numpy().reshape(-1, 4, 2).sum(-1))[:, ::-1][:, :2]
    inside = (chosen[:, :, None] == best[:, None]).any(-1)
    assert inside.all() == (reference == "deepseek")
    assert inside.any() == (reference == "deepseek")
