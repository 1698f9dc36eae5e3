"""Laws of checkpoints: what is saved is what was loaded, and each tensor that is wrong is named."""

from __future__ import annotations

import json
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from finetune import precision
from finetune.deepseek import checkpoint, config, weights
from finetune.deepseek.decoder import CausalLM
from finetune.deepseek.safetensors_file import SafetensorsFile
from finetune.errors import ModelError

GOLDEN = Path(__file__).parent / "golden"
DTYPES = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
}


def write(path: Path, tensors: dict[str, tuple[str, Any]]) -> None:
    """A safetensors file of any dtype."""
    header, contents, offset = {}, [], 0
    for name, (dtype, array) in tensors.items():
        content = np.asarray(array).astype(DTYPES[dtype]).tobytes()
        span = [offset, offset + len(content)]
        header[name] = {"dtype": dtype, "shape": list(np.shape(array)), "data_offsets": span}
        contents.append(content)
        offset += len(content)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(contents))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the smallest checkpoint with experts."""
    return Path(shutil.copytree(GOLDEN / "v3", tmp_path / "v3"))


@pytest.fixture
def rewrite(folder: Path) -> Callable[..., None]:
    """Writes the checkpoint again, each tensor as `change(name, array)` has it; None drops it."""

    def again(change: Callable[[str, Any], Any]) -> None:
        tensors = load_file(folder / "model.safetensors")
        changed = {name: change(name, array) for name, array in tensors.items()}
        write(
            folder / "model.safetensors",
            {name: each for name, each in changed.items() if each is not None},
        )

    return again


def logits(model: Any) -> Any:
    ids = tf.constant([[5, 3, 9, 60, 1]])
    return model({"input_ids": ids, "attention_mask": tf.ones_like(ids)}).logits.numpy()


@pytest.mark.parametrize("variant", ["llama3-rope", "qwen2", "v2-lite", "v3"])
def test_what_is_saved_is_what_was_loaded(variant: str, tmp_path: Path) -> None:
    model = checkpoint.from_pretrained(GOLDEN / variant)
    checkpoint.save_pretrained(model, tmp_path)
    configs = [
        json.loads((each / "config.json").read_text()) for each in (GOLDEN / variant, tmp_path)
    ]
    assert configs[0] == configs[1]
    before = load_file(GOLDEN / variant / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor)
    np.testing.assert_array_equal(logits(checkpoint.from_pretrained(tmp_path)), logits(model))


@pytest.mark.parametrize(("dtype", "near"), [("F16", 0.05), ("BF16", 0.4)])
def test_half_precision_is_widened(
    folder: Path, rewrite: Callable[..., None], dtype: str, near: float
) -> None:
    expected = logits(checkpoint.from_pretrained(folder))
    rewrite(lambda _, array: (dtype, array))
    np.testing.assert_allclose(logits(checkpoint.from_pretrained(folder)), expected, atol=near)


def test_fp8_is_unpacked_block_by_block(tmp_path: Path) -> None:
    """Against the plain formula, on a matrix of 2 × 2 blocks with cut ends."""
    generator = np.random.default_rng(0)
    raw = generator.normal(size=(200, 130)).astype(ml_dtypes.float8_e4m3fn)
    scales = generator.uniform(0.1, 2, (2, 2)).astype(np.float32)
    path = tmp_path / "a.safetensors"
    write(path, {"w": ("F8_E4M3", raw), "w_scale_inv": ("F32", scales)})
    ((_, found),) = checkpoint._pieces(SafetensorsFile(path), "w")
    for row, column in [(0, 0), (127, 127), (128, 127), (0, 128), (199, 129)]:
        expected = np.float32(raw[row, column]) * scales[row // 128, column // 128]
        assert found[row, column] == expected
    write(path, {"w": ("F8_E4M3", raw)})
    with pytest.raises(ModelError, match="w is FP8 but has no w_scale_inv"):
        next(checkpoint._pieces(SafetensorsFile(path), "w"))
    write(path, {"w": ("F8_E4M3", raw), "w_scale_inv": ("F32", scales[:1])})
    with pytest.raises(ModelError, match=r"w_scale_inv has shape \[1, 2\]"):
        next(checkpoint._pieces(SafetensorsFile(path), "w"))


def test_shards_are_one_checkpoint(folder: Path) -> None:
    expected = logits(checkpoint.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {
        f"model-0000{number}-of-00003.safetensors": names[number - 1 :: 3] for number in (1, 2, 3)
    }
    for file, members in parts.items():
        write(folder / file, {name: ("F32", tensors[name]) for name in members})
    index = {"weight_map": {name: file for file, members in parts.items() for name in members}}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    np.testing.assert_array_equal(logits(checkpoint.from_pretrained(folder)), expected)
    path.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(ModelError, match=r"names '\.\./\.\./etc/passwd', which is no file"):
        checkpoint.from_pretrained(folder)


def test_the_next_token_block_and_old_frequencies_are_left_out(
    folder: Path, rewrite: Callable[..., None]
) -> None:
    expected = logits(checkpoint.from_pretrained(folder))
    tensors = load_file(folder / "model.safetensors")
    extra = {
        "model.layers.2.eh_proj.weight": np.ones((2, 2), np.float32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32),
    }
    write(
        folder / "model.safetensors",
        {name: ("F32", array) for name, array in (tensors | extra).items()},
    )
    np.testing.assert_array_equal(logits(checkpoint.from_pretrained(folder)), expected)


def test_every_tensor_that_is_wrong_is_named(folder: Path, rewrite: Callable[..., None]) -> None:
    gone = "model.layers.1.mlp.experts.7.up_proj.weight"
    odd = "model.norm.weight"
    rewrite(
        lambda name, array: None if name == gone else ("F32", array[:3] if name == odd else array)
    )
    tensors = load_file(folder / "model.safetensors")
    write(
        folder / "model.safetensors",
        {name: ("F32", array) for name, array in tensors.items()} | {"a.b": ("F32", np.ones(1))},
    )
    message = (
        rf"1 tensors are missing: {gone}; 1 tensors are not expected: a\.b; "
        rf"1 tensors are of another shape: {odd} \[3\], not \[32\]; use a whole checkpoint"
    )
    with pytest.raises(ModelError, match=message):
        checkpoint.from_pretrained(folder)


@pytest.mark.parametrize("kept", [0, 3, 8, 100, -1, -1000])
def test_a_file_that_is_cut_off_is_named(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"model\.safetensors: .*; restore the file"):
        checkpoint.from_pretrained(folder)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_bytes_are_a_model_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(content)) + content)
    try:
        SafetensorsFile(path)
    except ModelError as error:
        assert str(path) in str(error)  # noqa: PT017


def test_a_classifier_takes_the_body_and_makes_its_head(folder: Path) -> None:
    model = checkpoint.from_pretrained(folder, ("a", "b", "c"))
    assert logits(model).shape == (1, 3)
    body = checkpoint.from_pretrained(folder)
    pairs = zip(weights.places(model), weights.places(body), strict=False)
    for mine, same in pairs:
        if mine.name == same.name:
            np.testing.assert_array_equal(mine.value(), same.value())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_the_weights_whole(policy: precision.Policy) -> None:
    with precision.scope(policy):
        model = checkpoint.from_pretrained(GOLDEN / "v3")
    tensors = load_file(GOLDEN / "v3" / "model.safetensors")
    for place in weights.places(model):
        np.testing.assert_array_equal(place.value(), tensors[place.name])


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A checkpoint whose embedding and head are most of it, in bfloat16: 10 MB in float32."""
    sizes = {"vocab_size": 9000, "hidden_size": 128, "intermediate_size": 300}
    content = json.loads((GOLDEN / "qwen2" / "config.json").read_text()) | sizes
    (tmp_path / "config.json").write_text(json.dumps(content))
    model = CausalLM(config.parse(content))
    token = tf.ones([1, 1], tf.int32)
    model({"input_ids": token, "attention_mask": token})
    tensors = {place.name: ("BF16", place.value()) for place in weights.places(model)}
    write(tmp_path / "model.safetensors", tensors)
    return tmp_path


def test_a_tensor_is_read_in_pieces(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the model's own memory, there is one piece of a tensor, not the whole of it."""
    expected = checkpoint.from_pretrained(wide)
    monkeypatch.setattr(checkpoint, "_PIECE", 128 * 256)
    tracemalloc.start()
    try:
        model = checkpoint.from_pretrained(wide)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    for one, other in zip(weights.places(model), weights.places(expected), strict=True):
        np.testing.assert_array_equal(one.value(), other.value())
    assert peak_bytes < 0.15 * sum(place.value().nbytes for place in weights.places(model))


def test_weights_are_of_the_policys_dtype(wide: Path, tmp_path: Path) -> None:
    """So a large checkpoint takes no more memory than it has on disk."""
    tf_keras.mixed_precision.set_global_policy("bfloat16")
    try:
        model = checkpoint.from_pretrained(wide)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert {variable.dtype for variable in model.variables} == {tf.bfloat16}
    checkpoint.save_pretrained(model, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    entries = SafetensorsFile(tmp_path / "saved" / "model.safetensors").entries
    assert {entry.dtype for entry in entries.values()} == {"BF16"}


def test_a_new_head_is_drawn_and_a_known_one_kept(folder: Path, tmp_path: Path) -> None:
    model = checkpoint.from_pretrained(folder, ("a", "b", "c"))
    assert 0.1 < float(tf.math.reduce_std(model.score.kernel)) < 0.3  # the config's 0.2
    checkpoint.save_pretrained(model, tmp_path / "saved")
    again = checkpoint.from_pretrained(tmp_path / "saved", ("a", "b", "c"))
    np.testing.assert_array_equal(again.score.kernel, model.score.kernel)
    other = checkpoint.from_pretrained(tmp_path / "saved", ("a", "b"))
    assert other.score.kernel.shape == (32, 2)
