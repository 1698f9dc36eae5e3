"""A trained encoder's weights under the names that transformers' PyTorch classes have for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Named = Iterator[tuple[str, NDArray[np.float32]]]


def write(model: Any, folder: Path) -> Path:
    """Writes `config.json` and `model.safetensors` of a BERT classifier with our head."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict()))
    save_file(dict(_all(model)), folder / "model.safetensors")
    return folder


def _all(model: Any) -> Named:
    bert, embeddings = model.bert, model.bert.embeddings
    yield "embeddings.word_embeddings.weight", embeddings.weight.numpy()
    yield "embeddings.position_embeddings.weight", embeddings.position_embeddings.numpy()
    yield "embeddings.token_type_embeddings.weight", embeddings.token_type_embeddings.numpy()
    yield from _norm("embeddings.LayerNorm", embeddings.LayerNorm)
    for place, layer in enumerate(bert.encoder.layer):
        name, attention = f"encoder.layer.{place}", layer.attention
        for part in ("query", "key", "value"):
            dense = getattr(attention.self_attention, part)
            yield from _dense(f"{name}.attention.self.{part}", dense)
        yield from _dense(f"{name}.attention.output.dense", attention.dense_output.dense)
        yield from _norm(f"{name}.attention.output.LayerNorm", attention.dense_output.LayerNorm)
        yield from _dense(f"{name}.intermediate.dense", layer.intermediate.dense)
        yield from _dense(f"{name}.output.dense", layer.bert_output.dense)
        yield from _norm(f"{name}.output.LayerNorm", layer.bert_output.LayerNorm)
    yield from _dense("pooler.dense", bert.pooler.dense)
    yield from _dense("head.0", model.classifier.dense)
    yield from _dense("head.2", model.classifier.projection)


def _dense(name: str, layer: Any) -> Named:
    yield f"{name}.weight", np.ascontiguousarray(layer.kernel.numpy().T)
    yield f"{name}.bias", layer.bias.numpy()


def _norm(name: str, layer: Any) -> Named:
    yield f"{name}.weight", layer.gamma.numpy()
    yield f"{name}.bias", layer.beta.numpy()
