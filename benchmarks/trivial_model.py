"""A text classifier that costs almost nothing to run, so that what is around it can be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
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
from bundle.postprocess import LabelScore, rank_labels
from bundle.preprocess import TextPreprocessor
from bundle.repository import EXTRA, ModelRepository

NAME, LABELS = "trivial", ("negative", "positive")
TEXT = "a quiet film about two brothers who never quite say what they mean"


_WORDS = sorted(set(TEXT.split()))
_FIRST = 2  # behind padding and the unknown


def publish(root: Path, seed: int = 0) -> TextPreprocessor:
    """Publishes it as the next version below `root`; what turns text into its tensors."""
    vocabulary = {"[PAD]": 0, "[UNK]": 1}
    vocabulary |= {word: index + _FIRST for index, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer_json = tokenizer.to_str().encode()
    spec = TextPreprocess(buckets=(16, 32), pad_id=0, max_characters=1000)
    preprocessor = TextPreprocessor(tokenizer_json, spec)
    repository = ModelRepository(root)
    with repository.staging() as staged:
        model = _Sum(seed)
        tf.saved_model.save(model, str(staged), {"serving_default": model.forward})
        extra = staged / EXTRA
        extra.mkdir()
        (extra / spec.tokenizer).write_bytes(tokenizer_json)
        logits = model.forward(**preprocessor([TEXT]))["logits"].numpy()
        examples = golden.make([TEXT], logits, tolerance=1e-3)
        (extra / golden.FILE_NAME).write_bytes(golden.encode(examples))
        repository.publish(staged, _manifest(spec))
    return preprocessor


def label(preprocessor: TextPreprocessor, text: str, seed: int = 0) -> str:
    """The label it must answer to a text, by NumPy."""
    return answer(preprocessor, text, seed).label


def answer(preprocessor: TextPreprocessor, text: str, seed: int = 0) -> LabelScore:
    """That label with its score."""
    logits = _table(seed)[preprocessor.encode([text])[0]].sum(0, keepdims=True)
    return rank_labels(logits, LABELS)[0][0]


def _table(seed: int) -> NDArray[np.float32]:
    """What each token says of each label, [tokens, 2]; a text's logits are their sum."""
    size = (_FIRST + len(_WORDS), len(LABELS))
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


class _Sum(tf.Module):  # type: ignore[misc]
    """Adds up two numbers a token."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = tf.Variable(_table(seed))
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
        labels=LABELS,
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
