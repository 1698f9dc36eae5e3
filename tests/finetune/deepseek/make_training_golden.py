"""Writes, beside the golden checkpoints, what PyTorch says of training and adapting them.

    python tests/finetune/deepseek/make_training_golden.py GOLDEN
                                                needs torch, transformers 4.54 and peft

training.npz      of a classifier over the checkpoint: its loss, and of each gradient the norm and a
                  few values
transformers.npz  v2's logits under YaRN, where transformers differs from DeepSeek's own code
adapter/          as PEFT writes one, with what the adapted model answers in adapter.npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_golden import _YARN, VARIANTS, _follow_deepseek
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

LABELS = 3
SHOWN = 40  # values of a gradient
TARGETS = {
    "qwen2": ["q_proj", "v_proj", "down_proj"],
    "v3": ["q_b_proj", "kv_a_proj_with_mqa", "gate_proj", "down_proj"],
}


def main(golden: Path) -> None:
    """See the module."""
    _transformers(golden / "v2")
    for variant, targets in TARGETS.items():
        _adapter(golden / variant, targets)
    _follow_deepseek()
    for variant in VARIANTS:
        _training(golden / variant)


def _model(folder: Path, **changes: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", **changes)


def _inputs(folder: Path) -> dict[str, torch.Tensor]:
    known = np.load(folder / "golden.npz")
    mask = torch.tensor(known["attention_mask"]).long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    ids = torch.tensor(known["input_ids"]).long()
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def _transformers(folder: Path) -> None:
    with torch.no_grad():
        logits = _model(folder, rope_scaling=_YARN)(**_inputs(folder)).logits
    np.savez_compressed(folder / "transformers.npz", logits=logits.numpy())


def _adapter(folder: Path, targets: list[str]) -> None:
    torch.manual_seed(1)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(_model(folder), config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
        logits = model(**_inputs(folder)).logits
    model.peft_config["default"].base_model_name_or_path = folder.name
    model.save_pretrained(folder / "adapter", save_embedding_layers=False)  # else it asks the hub
    (folder / "adapter" / "README.md").unlink()
    np.savez_compressed(folder / "adapter.npz", logits=logits.numpy())


def _training(folder: Path) -> None:
    torch.manual_seed(2)
    base = _model(folder).model.train()
    score = torch.nn.Linear(base.config.hidden_size, LABELS, bias=False)
    torch.nn.init.normal_(score.weight, std=0.3)
    inputs = _inputs(folder)
    mask = inputs["attention_mask"]
    last = (torch.arange(mask.shape[1]) * mask).max(-1).values
    features = base(**inputs).last_hidden_state[torch.arange(len(last)), last]
    loss = torch.nn.functional.cross_entropy(score(features), torch.arange(len(last)) % LABELS)
    loss.backward()
    found = {f"model.{name}": each for name, each in base.named_parameters()}
    arrays = {"loss": loss.detach().numpy(), "score": score.weight.detach().numpy()}
    for name, parameter in (found | {"score.weight": score.weight}).items():
        none = torch.zeros_like(parameter)
        gradient = (none if parameter.grad is None else parameter.grad).numpy().ravel()
        arrays[f"norm {name}"] = np.linalg.norm(gradient)
        arrays[f"values {name}"] = gradient[:: -(-gradient.size // SHOWN)]
    np.savez_compressed(folder / "training.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
