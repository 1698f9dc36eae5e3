"""Laws of the ONNX gate: a file that answers otherwise, by much or by little, is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import tensorflow as tf
from PIL import Image

from bundle import golden, preprocess
from bundle.manifest import ImagePreprocess, Signature, TensorSpec
from bundle.repository import EXTRA, ModelRepository, SavedBundle
from finetune.errors import GateRefused
from finetune.export import onnx as export
from finetune.export import onnx_gate


@pytest.fixture(scope="module")
def saved(published: Any) -> SavedBundle:
    return published.outcome.saved


@pytest.fixture(scope="module")
def content(saved: SavedBundle) -> bytes:
    return export.convert(saved)


def test_a_faithful_conversion_passes(content: bytes, saved: SavedBundle) -> None:
    verdict = onnx_gate.judge(content, saved)
    assert verdict.golden_examples > 0
    assert verdict.random_batches == 3 * len(saved.manifest.preprocess.variants)
    assert verdict.golden_difference < 1e-4
    assert verdict.random_difference < verdict.tolerance


def test_a_damaged_conversion_is_refused(content: bytes, saved: SavedBundle) -> None:
    model = onnx.load_from_string(content)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights = onnx.numpy_helper.to_array(largest)
    largest.CopyFrom(onnx.numpy_helper.from_array(-weights, largest.name))
    with pytest.raises(GateRefused, match=r"tiny version 1: ONNX refused: .*difference"):
        onnx_gate.judge(model.SerializeToString(), saved)


def test_a_small_drift_is_refused_too(content: bytes, saved: SavedBundle) -> None:
    """Less than what golden answers may differ by between machines: TensorFlow's tell it."""
    model = onnx.load_from_string(content)
    (bias,) = (
        tensor
        for tensor in model.graph.initializer
        if list(tensor.dims) == [2] and tensor.data_type == onnx.TensorProto.FLOAT
    )
    drifted = onnx.numpy_helper.to_array(bias) + np.float32(1e-3)
    bias.CopyFrom(onnx.numpy_helper.from_array(drifted, bias.name))
    expected = r"logits differs from TensorFlow's by 0\.001, over .* for random inputs"
    with pytest.raises(GateRefused, match=expected):
        onnx_gate.judge(model.SerializeToString(), saved)


def test_what_is_no_onnx_file_is_refused(saved: SavedBundle) -> None:
    with pytest.raises(GateRefused, match="ONNX refused: onnxruntime: "):
        onnx_gate.judge(b"nonsense", saved)


def test_pictures_are_judged_too(published: Any, tmp_path: Path) -> None:
    """A tiny convolution over real pixels, published as any image model is."""
    filters = np.random.default_rng(0).normal(size=(3, 3, 3, 2)).astype(np.float32)

    class Tiny(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 16, 16, 3], tf.uint8, name="pixels")])
        def serve(self, pixels: Any) -> Any:
            found = tf.nn.conv2d(tf.cast(pixels, tf.float32) / 255, filters, 2, "SAME")
            return {"logits": tf.reduce_mean(tf.nn.relu(found), axis=(1, 2))}

    pixels = TensorSpec(name="pixels", dtype="uint8", shape=(None, 16, 16, 3))
    logits = TensorSpec(name="logits", dtype="float32", shape=(None, 2))
    draft = msgspec.structs.replace(
        published.outcome.saved.manifest,
        name="pictures",
        task="image-classification",
        preprocess=ImagePreprocess(height=16, width=16),
        signatures={"serving_default": Signature(inputs=(pixels,), outputs=(logits,))},
    )
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), "teal").save(buffer, "PNG")
    picture = buffer.getvalue()
    model = Tiny()
    answer = model.serve(preprocess.create(draft.preprocess, str.encode)([picture])["pixels"])
    repository = ModelRepository(tmp_path)
    with repository.staging() as staged:
        tf.saved_model.save(model, str(staged), signatures={"serving_default": model.serve})
        (staged / EXTRA).mkdir()
        examples = golden.make([picture], answer["logits"].numpy(), 1e-4)
        (staged / EXTRA / golden.FILE_NAME).write_bytes(golden.encode(examples))
        saved = repository.publish(staged, draft)
    verdict = onnx_gate.judge(export.convert(saved), saved)
    assert (verdict.golden_examples, verdict.random_batches) == (1, 3)
    assert verdict.random_difference < 1e-5
