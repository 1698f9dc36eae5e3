"""Laws of the decoder's graphs: they answer as the trained model does, and convert as promised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import cache, checkpoint, config
from finetune.deepseek.decoder import CausalLM
from finetune.export import (
    decoder,
    flatbuffer,
    gate,
    inference_graph,
    ranges,
    static_int8,
    tflite,
)
from finetune.export.decoder import Classifier, Writer
from finetune.export.serving_model import ServingModel
from finetune.progress import Silent
from finetune.tasks.text_classification import TextClassification

GOLDEN = Path(__file__).parents[1] / "deepseek" / "golden"
IDS = np.random.default_rng(0).integers(2, 61, 11)
SIZES = {  # the smallest at which the converter makes int8 of 90% of the weights
    "vocab_size": 128,
    "hidden_size": 96,
    "intermediate_size": 96,
    "moe_intermediate_size": 48,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "kv_lora_rank": 24,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 48,
    "qk_rope_head_dim": 24,
    "v_head_dim": 48,
    "num_attention_heads": 2,
}


def padded(ids: Any, columns: int) -> Any:
    """One text, as devices and our tasks pad it: on the right."""
    return tf.constant(np.pad(ids, (0, columns - len(ids)))[None], tf.int32)


@pytest.mark.parametrize("variant", ["llama", "qwen2", "v2-lite", "v3"])
def test_a_writer_predicts_as_the_trained_model(variant: str) -> None:
    """Whatever stands in the cache's later columns."""
    model = checkpoint.from_pretrained(GOLDEN / variant)
    expected = model({"input_ids": padded(IDS, 11), "attention_mask": tf.ones([1, 11], tf.int32)})
    writer = Writer(model)
    known = np.random.default_rng(1).normal(size=[1, 16, cache.width(model.config)])
    remembered = tf.constant(known, tf.float32)
    for place, token in enumerate(IDS):
        if place == 5:  # the rest is read from the cache that prefill gives
            remembered = tf.concat(
                [writer.prefill(padded(IDS, 12))["cache"], remembered[:, 12:]], 1
            )
        at = tf.constant([place], tf.int32)
        found = writer.decode(tf.constant([token], tf.int32), at, remembered)
        np.testing.assert_allclose(found["logits"], expected.logits[:, place], atol=2e-5)
        remembered = tf.tensor_scatter_nd_update(remembered, [[0, place]], found["entry"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer_json: bytes) -> Path:
    """A checkpoint of DeepSeek-V3's architecture."""
    folder = tmp_path_factory.mktemp("base")
    content = json.loads((GOLDEN / "v3" / "config.json").read_text()) | SIZES
    tf.keras.utils.set_random_seed(0)
    model = CausalLM(config.parse(content))
    one = tf.ones([1, 1], tf.int32)
    model({"input_ids": one, "attention_mask": one})
    checkpoint.save_pretrained(model, folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_json)
    return folder


def test_a_classifier_answers_as_the_trained_model_also_in_dynamic_and_strict_int8(
    base: Path, tiny_recipe: Any
) -> None:
    task = TextClassification(tiny_recipe(f"base_model={base}", "data.buckets=[16]"))
    test, model = task.load_data().test, task.build_model()
    expected = task.measure(model, test, progress=Silent(), title="").logits
    graph = inference_graph.of(ServingModel(task, model))
    assert isinstance(graph.model, Classifier)
    for (place,), tensors in list(task.batches(test, 1))[:5]:
        found = graph.model({name: tf.constant(each) for name, each in tensors.items()}).logits
        np.testing.assert_allclose(found[0], expected[place], atol=1e-5)
    spec = task.preprocessor.spec
    samples = {"tokens_16": [tensors for _, tensors in task.batches(test, 1)][:32]}
    for profile in ("dynamic_int8", "full_int8"):
        source = profile if profile == "dynamic_int8" else "float32"
        content = tflite.convert(graph, spec.variants, source)
        if profile == "full_int8":
            observed = ranges.observe(content, samples, Silent())
            content = static_int8.quantize(content, ranges.whole(content, observed))
        flatbuffer.check_profile(flatbuffer.inspect(content), profile)
        found = gate.run(gate.Quantized(content, spec), task, test, Silent())
        usual = np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())
        # On average: near a tie, rounding chooses another expert.
        assert 0 < usual <= {"dynamic_int8": 0.15, "full_int8": 0.25}[profile]


def test_what_it_does_not_compute_it_does_not_take() -> None:
    assert not decoder.takes(checkpoint.from_pretrained(GOLDEN / "qwen2-window"))
    assert decoder.takes(checkpoint.from_pretrained(GOLDEN / "v2-yarn"))
