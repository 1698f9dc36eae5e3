"""Checkpoints in Hugging Face's format → models, and back.

    config.json  model.safetensors, or model-00001-of-00007.safetensors … with an index
        tensor by tensor: read ─► FP8 unpacked ─► float32 ─► its variable

One tensor at a time is in memory beside the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from safetensors.numpy import save_file

from bundle import atomic
from finetune.deepseek import config as configs
from finetune.deepseek import weights
from finetune.deepseek.config import DecoderConfig
from finetune.deepseek.decoder import CausalLM, SequenceClassifier
from finetune.deepseek.safetensors_file import SafetensorsFile
from finetune.deepseek.weights import Place
from finetune.errors import ModelError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SCALE = "_scale_inv"  # of FP8 weights: one for each block of 128 × 128
_FP8_BLOCK = 128
_SHOWN = 5  # names in an error
_FREQUENCIES = re.compile(r"\.rotary_emb\.inv_freq$")  # of old checkpoints; computed here


def from_pretrained(folder: Path, labels: Sequence[str] = ()) -> Any:
    """A model with a checkpoint's weights.

    Args:
        labels: with labels a `SequenceClassifier`, whose head is new unless the checkpoint has
            one of that size; without, a `CausalLM`.

    Raises:
        ModelError: names every tensor that is missing, not expected, or of another shape.
    """
    config = configs.read(folder)
    model: Any = SequenceClassifier(config, len(labels)) if labels else CausalLM(config)
    token = tf.ones([1, 1], tf.int32)
    model({"input_ids": token, "attention_mask": token})  # makes the variables
    _load(folder, {place.name: place for place in weights.places(model)}, config)
    return model


def save_pretrained(model: Any, content: dict[str, Any], folder: Path) -> None:
    """Writes a float32 checkpoint that transformers loads.

    Args:
        content: of `config.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {place.name: place.value() for place in weights.places(model)}
    unfinished = folder / f".{_SINGLE}"
    save_file(tensors, str(unfinished), metadata={"format": "pt"})
    unfinished.rename(folder / _SINGLE)
    text = json.dumps(content | {"torch_dtype": "float32"}, indent=2)
    atomic.write_bytes(folder / "config.json", text.encode())


def _load(folder: Path, wanted: dict[str, Place], config: DecoderConfig) -> None:
    found: set[str] = set()
    unexpected: list[str] = []
    misshapen: list[str] = []
    for path in _files(folder):
        file = SafetensorsFile(path)
        for name in file.entries:
            place = wanted.get(name)
            if place is None:
                if not _is_left_out(name, config):
                    unexpected.append(name)
                continue
            found.add(name)
            if file.entries[name].shape == place.shape:
                place.assign(_float32(file, name))
            elif not name.startswith("score."):  # a head for other labels
                shapes = f"{list(file.entries[name].shape)}, not {list(place.shape)}"
                misshapen.append(f"{name} {shapes}")
    missing = [name for name in wanted if name not in found and not name.startswith("score.")]
    problems = [
        f"{len(names)} tensors are {what}: {_shown(names)}"
        for names, what in (
            (missing, "missing"),
            (unexpected, "not expected"),
            (misshapen, "of another shape"),
        )
        if names
    ]
    if problems:
        raise ModelError(f"{folder}: {'; '.join(problems)}; use a whole checkpoint of this model")


def _files(folder: Path) -> list[Path]:
    path = folder / _INDEX
    if not path.is_file():
        return [folder / _SINGLE]
    try:
        names = sorted(set(json.loads(path.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not an index of tensors: {error!r}; restore the file") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{path}: names {name!r}, which is no file beside it; restore it")
    return [folder / name for name in names]


def _float32(file: SafetensorsFile, name: str) -> NDArray[np.float32]:
    entry, raw = file.entries[name], file.read(name)
    if entry.dtype != "F8_E4M3":
        return raw.astype(np.float32)
    if f"{name}{_SCALE}" not in file.entries:
        raise ModelError(f"{file.path}: {name} is FP8 but has no {name}{_SCALE}; restore the file")
    scales = file.read(f"{name}{_SCALE}").astype(np.float32)
    rows, columns = (np.arange(size) // _FP8_BLOCK for size in entry.shape)
    if scales.shape != (rows[-1] + 1, columns[-1] + 1):
        raise ModelError(f"{file.path}: {name}{_SCALE} has shape {list(scales.shape)}; restore it")
    return np.asarray(raw.astype(np.float32) * scales[np.ix_(rows, columns)], np.float32)


def _is_left_out(name: str, config: DecoderConfig) -> bool:
    """Whether a tensor is known and knowingly not used."""
    is_next_token_block = name.startswith(f"model.layers.{config.blocks}.")  # DeepSeek-V3's MTP
    is_head = name.startswith("lm_head.")  # tied, or of another kind of model
    is_scale = name.endswith(_SCALE)
    return is_next_token_block or is_head or is_scale or bool(_FREQUENCIES.search(name))


def _shown(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
