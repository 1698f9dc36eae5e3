"""A text classifier that costs almost nothing to run, so that what is around it can be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from tokenizers import Tokenizer, models, pre_tokenizers

from bundle import golden
from bundle.manifest import (
    SCHEMA_VERSION,
    Manifest,
    Provenance,
    Signature,
    TensorSpec,
    TextPreprocess,
)
from bundle.preprocess import TextPreprocessor
from bundle.repository import EXTRA, ModelRepository

NAME = "trivial"
TEXT = "a quiet film about two brothers who never quite say what they mean"


def publish(root: Path) -> TextPreprocessor:
    """Publishes it as version 1 below `root`; what turns text into its tensors."""
    words = sorted(set(TEXT.split()))
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {word: index + 2 for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer_json = tokenizer.to_str().encode()
    spec = TextPreprocess(buckets=(16, 32), pad_id=0, max_characters=1000)
    preprocessor = TextPreprocessor(tokenizer_json, spec)
    repository = ModelRepository(root)
    with repository.staging() as staged:
        model = _Sum(len(vocabulary))
        tf.saved_model.save(model, str(staged), {"serving_default": model.forward})
        extra = staged / EXTRA
        extra.mkdir()
        (extra / spec.tokenizer).write_bytes(tokenizer_json)
        logits = model.forward(**preprocessor([TEXT]))["logits"].numpy()
        examples = golden.make([TEXT], logits, tolerance=1e-3)
        (extra / golden.FILE_NAME).write_bytes(golden.encode(examples))
        repository.publish(staged, _manifest(spec))
    return preprocessor


class _Sum(tf.Module):  # type: ignore[misc]
    """Adds up two numbers a token."""

    def __init__(self, size: int) -> None:
        super().__init__()
        table = np.random.default_rng(0).normal(size=(size, 2))
        self.table = tf.Variable(table.astype(np.float32))
        specs = [tf.TensorSpec([None, None], tf.int32, name=name) for name in _INPUTS]
        self.forward = tf.function(self._forward, input_signature=specs)

    def _forward(self, input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        mask = tf.cast(attention_mask, tf.float32)[:, :, None]
        return {"logits": tf.reduce_sum(tf.gather(self.table, input_ids) * mask, axis=1)}


_INPUTS = ("input_ids", "attention_mask")


def _manifest(spec: TextPreprocess) -> Manifest:
    tokens = [TensorSpec(name=name, dtype="int32", shape=(None, None)) for name in _INPUTS]
    logits = TensorSpec(name="logits", dtype="float32", shape=(None, 2))
    none = "0" * 64
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=NAME,
        version=1,
        task="text-classification",
        labels=("negative", "positive"),
        preprocess=spec,
        signatures={"serving_default": Signature(inputs=tuple(tokens), outputs=(logits,))},
        metrics={},
        provenance=Provenance(
            recipe={},
            recipe_sha256=none,
            base_model="none",
            base_model_sha256=none,
            data_sha256=none,
            packages={},
            created="2026-11-24T00:00:00Z",
        ),
        files={},
    )
