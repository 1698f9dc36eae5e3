"""Laws of adapters on disk: PEFT's files are read as PEFT reads them, and written as it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from finetune.deepseek import adapter, checkpoint
from finetune.errors import ModelError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "qwen2" / "adapter", tmp_path / "adapter"))


@pytest.mark.parametrize("variant", ["qwen2", "v3"])
def test_pefts_adapter_answers_as_in_pytorch_and_is_written_alike(
    variant: str, tmp_path: Path
) -> None:
    """With a path for each expert in v3. The golden files are of `make_training_golden.py`."""
    golden = GOLDEN / variant
    model = checkpoint.from_pretrained(golden)
    adapters = adapter.load(model, golden / "adapter")
    known = np.load(golden / "golden.npz")
    names = ("input_ids", "attention_mask")
    logits = model({name: known[name] for name in names}).logits.numpy()
    read = known["attention_mask"].astype(bool)
    expected = np.load(golden / "adapter.npz")["logits"]
    np.testing.assert_allclose(logits[read], expected[read], atol=2e-4)
    assert np.abs(expected - known["logits"])[read].max() > 0.1
    adapter.save(model, adapters, variant, tmp_path / "adapter")
    theirs, ours = (
        load_file(each / "adapter_model.safetensors")
        for each in (golden / "adapter", tmp_path / "adapter")
    )
    assert theirs.keys() == ours.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)
    theirs, ours = (
        json.loads((each / "adapter_config.json").read_text())
        for each in (golden / "adapter", tmp_path / "adapter")
    )
    assert set(theirs.pop("target_modules")) == set(ours.pop("target_modules"))
    assert ours.items() <= theirs.items()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"use_dora": True}, "use_dora: True is not supported"),
        ({"modules_to_save": ["score"]}, r"modules_to_save: \['score'\] is not supported"),
        ({"r": "four"}, "not PEFT's description of a LoRA adapter"),
        ({"target_modules": ["q_b_proj"]}, r"lora\.targets: 'q_b_proj' is no linear layer"),
        ({"r": 4}, r"lora_A\.weight is \[2, 32\], not \[4, 32\]; use an adapter of this model"),
    ],
)
def test_an_adapter_that_does_not_fit_is_named(
    folder: Path, changes: dict[str, Any], expected: str
) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ModelError, match=expected):
        adapter.load(checkpoint.from_pretrained(GOLDEN / "qwen2"), folder)


def test_a_tensor_that_is_missing_is_named(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    save_file({key: value for key, value in tensors.items() if key != name}, path)
    with pytest.raises(ModelError, match=f"{name} is missing; use an adapter of this model"):
        adapter.load(checkpoint.from_pretrained(GOLDEN / "qwen2"), folder)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match="No such file"):
        adapter.load(checkpoint.from_pretrained(GOLDEN / "qwen2"), folder)
