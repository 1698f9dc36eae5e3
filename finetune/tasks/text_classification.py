"""Text → one of the recipe's labels, with any encoder that transformers has in TensorFlow."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import tensorflow as tf
from safetensors import SafetensorError

from bundle import integrity
from bundle.errors import ManifestError
from bundle.manifest import TextPreprocess
from bundle.preprocess import TextPreprocessor
from finetune.data import batches, source
from finetune.data.augment_text import TextAugmenter, TextNoise
from finetune.data.batches import Encoded
from finetune.errors import ModelError
from finetune.head import ClassificationHead
from finetune.recipe import Recipe
from finetune.tasks.base import TaskData

# Weights that a pretrained checkpoint may lack, since training makes them.
_MAY_LACK = ("classifier", "pooler", "dropout")


class TextClassification:
    """A `Task`; see `base`.

    Raises:
        ModelError: the base model's folder lacks its tokenizer or configuration.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.noise = TextNoise(**recipe.augment.model_dump())
        self.folder = _base_folder(recipe.base_model)
        self.tokenizer_json = _read(self.folder, "tokenizer.json")
        config = _config(self.folder)
        self.base_model_sha256 = _base_sha256(self.folder)
        longest = config.get("max_position_embeddings", recipe.data.buckets[-1])
        if recipe.data.buckets[-1] > longest:
            raise ModelError(
                f"data.buckets: {recipe.data.buckets[-1]} tokens are more than the "
                f"{longest} that {recipe.base_model} can read; lower the last bucket"
            )
        spec = TextPreprocess(
            buckets=recipe.data.buckets,
            pad_id=config.get("pad_token_id") or 0,
            max_characters=recipe.data.max_characters,
        )
        try:
            self.preprocessor = TextPreprocessor(self.tokenizer_json, spec)
        except ManifestError as error:
            raise ModelError(f"base_model {recipe.base_model}: {error}") from error

    def load_data(self) -> TaskData:
        settings = self.recipe.data
        paths = (settings.train, settings.dev, settings.test)
        check = self.preprocessor.check
        columns = {"text_column": settings.text_column, "label_column": settings.label_column}
        parts = [source.read_text(path, settings.labels, check, **columns) for path in paths]
        train, dev, test = (
            batches.encode(self.preprocessor, part.texts, part.labels) for part in parts
        )
        digests = [source.sha256(path) for path in paths]
        return TaskData(
            train,
            dev,
            test,
            test_texts=parts[2].texts,
            sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
            test_sha256=digests[2],
        )

    def build_model(self) -> Any:
        model, missing = self._load()
        lacking = sorted(name for name in missing if not any(part in name for part in _MAY_LACK))
        if lacking:
            raise self._error(f"its weights lack {lacking[0]} and {len(lacking) - 1} more")
        if not hasattr(model, "classifier"):
            raise self._error(f"{type(model).__name__} has no `classifier` to replace")
        labels, features = len(self.recipe.data.labels), model.config.hidden_size
        model.classifier = ClassificationHead(
            self.recipe.head, labels, features, seed=self.recipe.seed, name="classifier"
        )
        token = tf.ones([1, 1], tf.int32)
        answer = self.logits(model, {"input_ids": token, "attention_mask": token}, training=False)
        if answer.shape != (1, labels):
            raise self._error(f"{type(model).__name__} pools inside its classifier, not before it")
        return model

    def _load(self) -> tuple[Any, list[str]]:
        """The model as transformers makes it, and the names of weights it found no values for."""
        from transformers import TFAutoModelForSequenceClassification  # noqa: PLC0415

        labels = self.recipe.data.labels
        try:
            with warnings.catch_warnings(), _quiet("transformers"):
                warnings.simplefilter("ignore")  # of a checkpoint without a classifier: we make one
                model, info = TFAutoModelForSequenceClassification.from_pretrained(
                    str(self.folder),
                    num_labels=len(labels),
                    id2label=dict(enumerate(labels)),
                    label2id={label: index for index, label in enumerate(labels)},
                    output_loading_info=True,
                )
        except (OSError, ValueError, KeyError, SafetensorError, tf.errors.OpError) as error:
            raise self._error(" ".join(str(error).split())[:300]) from error
        return model, info["missing_keys"]

    def _error(self, problem: str) -> ModelError:
        return ModelError(
            f"base_model {self.recipe.base_model}: {problem}. Use a whole checkpoint of an "
            "encoder that pools before its classifier, such as BERT."
        )

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        return tf.cast(model(inputs, training=training).logits, tf.float32)

    def loss(self, logits: Any, batch: dict[str, Any]) -> Any:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], logits)

    def weights(self, batch: dict[str, Any]) -> Any:
        return batch["weights"]

    def steps(self, data: TaskData, epoch: int) -> int:
        size = self.recipe.data.batch_size
        return batches.steps_per_epoch(self._noisy(data, epoch), self.preprocessor, size)

    def training_batches(self, data: TaskData, epoch: int, multiple: int) -> Any:
        settings = self.recipe
        return batches.training(
            self._noisy(data, epoch),
            self.preprocessor,
            settings.data.batch_size,
            settings.seed,
            epoch=epoch,
            multiple=multiple,
        )

    def _noisy(self, data: TaskData, epoch: int) -> Encoded:
        """The training split with an epoch's noise, if the recipe wants any."""
        if not self.noise.changes:
            return data.train
        return Encoded(self._augmenter.epoch(data.train.ids, epoch), data.train.labels)

    @functools.cached_property
    def _augmenter(self) -> TextAugmenter:
        return TextAugmenter.of_tokenizer(
            self.tokenizer_json,
            self.noise,
            pad_id=self.preprocessor.spec.pad_id,
            seed=self.recipe.seed,
        )


def _base_folder(base_model: str) -> Path:
    if Path(base_model).is_dir():
        return Path(base_model)
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    try:
        patterns = ["config.json", "tokenizer.json", "*.safetensors", "tf_model.h5"]
        return Path(snapshot_download(base_model, allow_patterns=patterns))
    except (OSError, HFValidationError, HfHubHTTPError) as error:
        raise ModelError(
            f"base_model {base_model!r}: no such folder, and the hub does not give it: "
            f"{' '.join(str(error).split())[:200]}. Name a folder with config.json, "
            "tokenizer.json and the weights."
        ) from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(f"base_model {folder}: {name}: {error.strerror}; add the file") from error


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read(folder, "config.json"))
    except ValueError as error:
        raise ModelError(f"base_model {folder}: config.json: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"base_model {folder}: config.json: must be an object of settings")
    return config


def _base_sha256(folder: Path) -> str:
    names = sorted(path for pattern in ("*.safetensors", "*.h5") for path in folder.glob(pattern))
    if not names:
        raise ModelError(f"base_model {folder}: no *.safetensors or *.h5 weights; add them")
    names += [folder / "config.json", folder / "tokenizer.json"]
    digests = [integrity.sha256_file(path) for path in names]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


class _quiet:  # noqa: N801 (reads as a verb in `with`)
    """Lets only errors of a logger through, for as long as it is entered."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def __enter__(self) -> None:
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
