"""Law: every variant answers as PyTorch transformers does, where that follows DeepSeek's own code.

The golden folders are written by `make_golden.py` beside this file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from finetune.deepseek import checkpoint

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = ("llama", "llama3-rope", "qwen2", "v2-lite", "v2", "v3", "v3-yarn")


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
