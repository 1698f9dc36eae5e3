"""Adapters on disk, in the format of PEFT: PyTorch's users load them beside the same checkpoint.

adapter_config.json         rank, alpha, targets
adapter_model.safetensors   base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight [r, in]
                            …                                              lora_B.weight [out, r]
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from bundle import atomic
from finetune import recipe
from finetune.deepseek import weights
from finetune.deepseek.lora import Adapters
from finetune.deepseek.safetensors_file import SafetensorsFile
from finetune.deepseek.weights import Place
from finetune.errors import ModelError

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."  # what PEFT wraps a model in
# PEFT's other kinds of adapter, which would be read wrongly.
_PLAIN = {
    "bias": "none",
    "fan_in_fan_out": False,
    "use_rslora": False,
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "layers_to_transform": None,
    "target_parameters": None,
    "lora_bias": False,
}


def save(model: Any, adapters: Adapters, base: str, folder: Path) -> None:
    """Writes the paths alone; nothing is left half-written.

    Args:
        model: whose paths are not merged.
        base: the checkpoint's name, for the readers.
    """
    settings = adapters.settings
    content = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if hasattr(model, "lm_head") else None,
        "base_model_name_or_path": base,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": adapters.targets,
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {part.name: part.value() for part in _parts(model, adapters)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        unfinished = Path(temporary, "content")
        unfinished.mkdir()
        save_file(tensors, str(unfinished / _WEIGHTS), metadata={"format": "pt"})
        (unfinished / _CONFIG).write_text(json.dumps(content, indent=2), encoding="utf-8")
        if folder.exists():
            atomic.exchange_directory(unfinished, folder)
        else:
            atomic.rename_directory(unfinished, folder)


def load(model: Any, folder: Path) -> Adapters:
    """Adapts a model as an adapter on disk says.

    Raises:
        ModelError: it is of another kind, or of another model; names what does not fit.
    """
    path = folder / _CONFIG
    try:
        content = json.loads(path.read_bytes())
        odd = [name for name, plain in _PLAIN.items() if content.get(name) not in (plain, None)]
        settings = recipe.Lora(
            rank=content["r"],
            alpha=content["lora_alpha"],
            dropout=content["lora_dropout"],
            targets=tuple(content["target_modules"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"not PEFT's description of a LoRA adapter: {error}; restore the file"
        raise ModelError(f"{path}: {problem}") from error
    if odd:
        raise ModelError(f"{path}: {odd[0]}: {content[odd[0]]!r} is not supported")
    file = SafetensorsFile(folder / _WEIGHTS)
    adapters = Adapters(model, settings)
    _fill(file, list(_parts(model, adapters)))
    return adapters


def _fill(file: SafetensorsFile, parts: list[Place]) -> None:
    wanted = {part.name for part in parts}
    if wanted != file.entries.keys():
        name = min(wanted ^ file.entries.keys())
        what = "is missing" if name in wanted else "is not expected"
        raise ModelError(f"{file.path}: {name} {what}; use an adapter of this model")
    for part in parts:
        entry = file.entries[part.name]
        if entry.shape != part.shape:
            shapes = f"{list(entry.shape)}, not {list(part.shape)}"
            raise ModelError(f"{file.path}: {part.name} is {shapes}; use an adapter of this model")
        part.assign(file.read(part.name))


def _parts(model: Any, adapters: Adapters) -> Iterator[Place]:
    paths = {id(path.kernel): path for path in adapters}
    for kernel in weights.places(model):
        path = paths.get(id(kernel.variable))
        if path is None:
            continue
        prefix = _PREFIX + kernel.name.removesuffix("weight")
        for name, variable in (("lora_A", path.lora_a), ("lora_B", path.lora_b)):
            full = f"{prefix}{name}.weight"
            yield Place(name=full, variable=variable, turned=True, expert=kernel.expert)
