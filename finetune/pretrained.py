"""A pretrained checkpoint in Hugging Face's format: a folder, or a name on the hub.

config.json   tokenizer.json   model.safetensors (or tf_model.h5)   preprocessor_config.json
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from safetensors import SafetensorError

from bundle import integrity
from finetune.deepseek import checkpoint
from finetune.deepseek import config as deepseek
from finetune.errors import ModelError

# Weights that a checkpoint may lack, since training makes them.
_MAY_LACK = ("classifier", "pooler", "dropout", "score", "qa_outputs", "logits_proj")


class Pretrained:
    """A checkpoint's folder, and the models that transformers makes of it.

    Args:
        name: a folder, or a name on the hub.

    Raises:
        ModelError: it lacks its configuration or its weights.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = folder(name)
        self.config = self._json("config.json")
        self.sha256 = self._sha256()

    @property
    def tokenizer_json(self) -> bytes:
        """The file of its tokenizer.

        Raises:
            ModelError: it has none.
        """
        return self._read("tokenizer.json")

    def settings(self, name: str) -> dict[str, Any]:
        """A JSON file that a checkpoint may lack; then nothing."""
        return self._json(name) if (self.folder / name).is_file() else {}

    def load(self, kind: str, labels: Sequence[str] = ()) -> Any:
        """The model as one of transformers' TF classes, with pretrained weights.

        Args:
            kind: `TFAutoModelFor…`.
            labels: of a classifier.

        Raises:
            ModelError: it has no such class in TensorFlow, or its weights are not whole.
        """
        # transformers has none of DeepSeek's own in TensorFlow.
        if self.config.get("model_type") in deepseek.FAMILIES:
            return checkpoint.from_pretrained(self.folder, labels)
        model, info = self._load(kind, labels)
        misshapen = _needed(name for name, *_ in info["mismatched_keys"])
        if misshapen:
            raise self.error(f"its weights have another shape than its configuration: {misshapen}")
        lacking = _needed(info["missing_keys"])
        if lacking:
            raise self.error(f"its weights lack {lacking}")
        return model

    def error(self, problem: str) -> ModelError:
        """What is wrong with it."""
        return ModelError(
            f"base_model {self.name}: {problem}. Use a whole checkpoint of a model that "
            "transformers has in TensorFlow."
        )

    def _load(self, kind: str, labels: Sequence[str]) -> tuple[Any, dict[str, Any]]:
        import transformers  # noqa: PLC0415 (takes seconds)

        settings: dict[str, Any] = {}
        if labels:
            settings = {
                "num_labels": len(labels),
                "id2label": dict(enumerate(labels)),
                "label2id": {label: index for index, label in enumerate(labels)},
                "ignore_mismatched_sizes": True,  # of a classifier for other labels: we make one
            }
        try:
            with warnings.catch_warnings(), quiet("transformers"):
                warnings.simplefilter("ignore")  # of a checkpoint without a classifier
                model, info = getattr(transformers, kind).from_pretrained(
                    str(self.folder), output_loading_info=True, **settings
                )
        except (OSError, ValueError, KeyError, SafetensorError, tf.errors.OpError) as error:
            raise self.error(" ".join(str(error).split())[:300]) from error
        return model, info

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            problem = f"base_model {self.folder}: {name}: {error.strerror}; add the file"
            raise ModelError(problem) from error

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self._read(name))
        except ValueError as error:
            raise ModelError(f"base_model {self.folder}: {name}: not JSON: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"base_model {self.folder}: {name}: must be an object of settings")
        return content

    def _sha256(self) -> str:
        weights = [path for kind in ("*.safetensors", "*.h5") for path in self.folder.glob(kind)]
        if not weights:
            raise ModelError(
                f"base_model {self.folder}: no *.safetensors or *.h5 weights; add them"
            )
        described = ("config.json", "tokenizer.json", "preprocessor_config.json")
        paths = [self.folder / name for name in described if (self.folder / name).is_file()]
        digests = [integrity.sha256_file(path) for path in (*sorted(weights), *paths)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def _needed(names: Iterable[str]) -> str:
    """Those of `names` that training does not make, in short; empty if there are none."""
    found = sorted(name for name in names if not any(part in name for part in _MAY_LACK))
    return f"{found[0]} and {len(found) - 1} more" if found else ""


def folder(name: str) -> Path:
    """A checkpoint's folder, fetched from the hub unless `name` is one already.

    Raises:
        ModelError: the hub does not give it.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    try:
        patterns = ["*config.json", "*.index.json", "tokenizer.json", "chat_template.jinja"]
        patterns += ["*.safetensors", "tf_model.h5"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, HFValidationError, HfHubHTTPError) as error:
        raise ModelError(
            f"base_model {name!r}: no such folder, and the hub does not give it: "
            f"{' '.join(str(error).split())[:200]}. Name a folder with config.json, "
            "tokenizer.json and the weights."
        ) from error


class quiet:  # noqa: N801 (reads as a verb in `with`)
    """Lets only errors of a logger through, for as long as it is entered."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
