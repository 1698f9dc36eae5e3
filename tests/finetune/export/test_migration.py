"""Laws of migration: in float nothing changes, and what goes into the products is evener."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from finetune.export import migration, ranges, static_int8, tflite_file
from finetune.export.ranges import Samples
from finetune.progress import Silent

GENERATOR = np.random.default_rng(0)
GAIN, SHIFT = GENERATOR.normal(size=(2, 8)).astype(np.float32)
GAIN[5] = 40.0  # an outlier
FIRST, SECOND = GENERATOR.normal(size=(2, 8, 8)).astype(np.float32)


def block(x: Any) -> Any:
    """A norm, two products that read it, one of them with a bias, and a sum with it."""
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axis=-1, keepdims=True)
    normed = centred * tf.math.rsqrt(variance + 1e-6) * GAIN + SHIFT
    return tf.tanh(tf.matmul(normed, FIRST)) * (tf.matmul(normed, SECOND) + SHIFT) + normed


@pytest.fixture(scope="module")
def model() -> bytes:
    functions = {
        f"rows_{rows}": tf.function(lambda x: {"logits": block(x)}).get_concrete_function(
            x=tf.TensorSpec([rows, 8], tf.float32, name="x")
        )
        for rows in (2, 5)
    }
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[*functions])
        return bytes(converter.convert())


@pytest.fixture(scope="module")
def samples() -> Samples:
    def one(rows: int) -> dict[str, Any]:
        return {"x": GENERATOR.normal(size=(rows, 8)).astype(np.float32)}

    return {f"rows_{rows}": [one(rows) for _ in range(8)] for rows in (2, 5)}


def answers(model: bytes, samples: Samples) -> Any:
    interpreter = Interpreter(model_content=model)
    return np.concatenate(
        [
            interpreter.get_signature_runner(name)(**tensors)["logits"]
            for name, each in samples.items()
            for tensors in each
        ]
    )


def test_in_float_nothing_changes(model: bytes, samples: Samples) -> None:
    moved = migration.migrate(model, migration.peaks(model, samples, Silent()))
    assert moved != tflite_file.pack(tflite_file.parse(model))
    np.testing.assert_allclose(answers(moved, samples), answers(model, samples), rtol=1e-4)


def test_outliers_become_smaller(model: bytes, samples: Samples) -> None:
    known = migration.peaks(model, samples, Silent())
    assert known
    moved = migration.migrate(model, known)
    after = migration.peaks(moved, samples, Silent())
    assert len(after) == len(known)
    for before, evened in zip(known.values(), after.values(), strict=True):
        assert before.argmax() == 5
        assert evened.max() / np.median(evened) < before.max() / np.median(before) / 2


def test_what_was_moved_can_be_made_int8(model: bytes, samples: Samples) -> None:
    moved = migration.migrate(model, migration.peaks(model, samples, Silent()))
    known = ranges.whole(moved, ranges.observe(moved, samples, Silent()))
    assert static_int8.quantize(moved, known)


def test_what_is_not_known_to_flow_stays_as_it_is(model: bytes) -> None:
    assert migration.migrate(model, {}) == tflite_file.pack(tflite_file.parse(model))
