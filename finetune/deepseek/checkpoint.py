"""Checkpoints in Hugging Face's format → models, and back.

    config.json  model.safetensors, or model-00001-of-00007.safetensors … with an index
        rows by rows: read ─► FP8 unpacked ─► into its variable, of that one's dtype

A few rows of one tensor are in memory beside the model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from safetensors.numpy import save_file

from bundle import atomic
from finetune.deepseek import config as configs
from finetune.deepseek import weights
from finetune.deepseek.config import DecoderConfig, Reference
from finetune.deepseek.decoder import CausalLM, SequenceClassifier
from finetune.deepseek.safetensors_file import SafetensorsFile
from finetune.deepseek.weights import Place
from finetune.errors import ModelError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_SCALE = "_scale_inv"  # of FP8 weights: one for each block of 128 × 128
_FP8_BLOCK = 128
_PIECE = 4 * 2**20  # numbers
_HEAD = "score."  # of a classifier
_SHOWN = 5  # names in an error
_FREQUENCIES = re.compile(r"\.rotary_emb\.inv_freq$")  # of old checkpoints; computed here


def from_pretrained(
    folder: Path, labels: Sequence[str] = (), reference: Reference = "deepseek"
) -> Any:
    """A model with a checkpoint's weights, of the dtype that the precision policy wants.

    Args:
        labels: with labels a `SequenceClassifier`, whose head is new unless the checkpoint has
            one of that size; without, a `CausalLM`.
        reference: whom to follow where they differ; see `config`.

    Raises:
        ModelError: names every tensor that is missing, not expected, or of another shape.
    """
    config = replace(configs.read(folder, reference), labels=tuple(labels))
    model: Any = SequenceClassifier(config, len(labels)) if labels else CausalLM(config)
    fill(model, folder)
    return model


def fill(model: Any, folder: Path) -> None:
    """Makes the variables of a new model, with a checkpoint's weights; see `from_pretrained`."""
    token = tf.ones([1, 1], tf.int32)
    with tf.variable_creator_scope(_empty):
        model({"input_ids": token, "attention_mask": token})
    _load(folder, {place.name: place for place in weights.places(model)}, model.config)


def save_pretrained(model: Any, folder: Path) -> None:
    """Writes a checkpoint that transformers loads."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {place.name: place.value() for place in weights.places(model)}
    unfinished = folder / f".{_SINGLE}"
    save_file(tensors, str(unfinished), metadata={"format": "pt"})
    unfinished.rename(folder / _SINGLE)
    dtype = {"torch_dtype": tensors["model.embed_tokens.weight"].dtype.name}
    text = json.dumps(_content(model.config) | dtype, indent=2)
    atomic.write_bytes(folder / "config.json", text.encode())


def _content(config: DecoderConfig) -> dict[str, Any]:
    """Of `config.json`."""
    content = {key: value for key, value in config.source.items() if key != "quantization_config"}
    if config.labels:
        content |= {"id2label": config.id2label, "label2id": config.label2id}
    return content


def _empty(create: Callable[..., Any], **settings: Any) -> Any:
    """Makes a variable of zeros: drawing what is overwritten takes time, and memory twice."""
    shape, dtype = settings["shape"], settings["dtype"]
    return create(**settings | {"initial_value": lambda: tf.zeros(shape, dtype)})


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
            elif file.entries[name].shape == place.shape:
                found.add(name)
                for first, rows in _pieces(file, name):
                    place.assign(rows, first)
            elif not name.startswith(_HEAD):  # a head for other labels
                found.add(name)
                shapes = f"{list(file.entries[name].shape)}, not {list(place.shape)}"
                misshapen.append(f"{name} {shapes}")
    missing = [name for name in wanted if name not in found]
    for name in (name for name in missing if name.startswith(_HEAD)):
        wanted[name].draw(config.initializer_range)
    problems = [
        f"{len(names)} tensors are {what}: {_shown(names)}"
        for names, what in (
            ([name for name in missing if not name.startswith(_HEAD)], "missing"),
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


def _pieces(file: SafetensorsFile, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """A tensor as runs of its rows, each with the number of its first: about 16 MB in float32."""
    entry = file.entries[name]
    row = max(math.prod(entry.shape[1:]), 1)
    most = max(_PIECE // row // _FP8_BLOCK, 1) * _FP8_BLOCK  # rows
    scales = _scales(file, name) if entry.dtype == "F8_E4M3" else None
    for first in range(0, entry.shape[0], most):
        rows = file.read(name, slice(first, first + most))
        if scales is not None:
            block = first // _FP8_BLOCK
            places = [np.arange(size) // _FP8_BLOCK for size in rows.shape]
            rows = rows.astype(np.float32) * scales[block:][np.ix_(*places)]
        yield first, rows


def _scales(file: SafetensorsFile, name: str) -> NDArray[np.float32]:
    """Of an FP8 tensor, one for each block."""
    if f"{name}{_SCALE}" not in file.entries:
        raise ModelError(f"{file.path}: {name} is FP8 but has no {name}{_SCALE}; restore the file")
    scales = file.read(f"{name}{_SCALE}").astype(np.float32)
    if scales.shape != tuple(-(-size // _FP8_BLOCK) for size in file.entries[name].shape):
        raise ModelError(f"{file.path}: {name}{_SCALE} has shape {list(scales.shape)}; restore it")
    return scales


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
