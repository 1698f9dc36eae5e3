"""Text → the next token: a causal language model.

    documents ─► tokens </s> tokens </s> … ─► blocks of T tokens ─► each predicts its next one

Two blocks share one token, so that each token but the first is predicted exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tokenizers import Tokenizer

from finetune import evaluate
from finetune.data import documents
from finetune.data.batches import Encoded
from finetune.errors import DataError
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.scratch import END
from finetune.tasks.base import TaskData, digests
from finetune.tasks.text import TextTask


class TextGeneration(TextTask):
    """A `Task`; see `base`. The labels of its batches are the inputs themselves, one on."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, keep="last", frames=False)

    def texts(self) -> Iterable[str]:
        return documents.read(self.recipe.data.train)

    @property
    def outcomes(self) -> int:
        return int(Tokenizer.from_buffer(self.base.tokenizer_json).get_vocab_size())

    def load_data(self) -> TaskData:
        settings = self.recipe.data
        paths = (settings.train, settings.dev, settings.test)
        train, dev, test = (self._blocks(path) for path in paths)
        return TaskData(train, dev, test, *digests(paths))

    def build_model(self) -> Any:
        model = self.base.load("TFAutoModelForCausalLM")
        token = tf.ones([1, 1], tf.int32)
        self.logits(model, {"input_ids": token, "attention_mask": token}, training=False)
        return model

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        """Float32 [B, T, C]."""
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        return tf.cast(model(inputs, training=training).logits, tf.float32)

    def loss(self, logits: Any, batch: dict[str, Any]) -> Any:
        following = batch["input_ids"][:, 1:]
        return tf.nn.sparse_softmax_cross_entropy_with_logits(following, logits[:, :-1])

    def weights(self, batch: dict[str, Any]) -> Any:
        return tf.cast(batch["attention_mask"][:, 1:], tf.float32) * batch["weights"][:, None]

    def answer(self, model: Any, inputs: dict[str, Any]) -> Any:
        """The logits of the token that follows each text."""
        logits = self.logits(model, inputs, training=False)
        last = tf.reduce_sum(inputs["attention_mask"], axis=1) - 1
        return tf.gather(logits, last, batch_dims=1)

    def measure(
        self, model: Any, split: Encoded, *, progress: Progress, title: str
    ) -> evaluate.Modelled:
        return evaluate.likelihood(self, model, split, progress=progress, title=title)

    def origin(self, split: Encoded, place: int) -> str:
        first = place * (self.recipe.data.buckets[-1] - 1)
        return f"tokens {first} to {first + len(split.ids[place]) - 1}"

    def _blocks(self, path: Path) -> Encoded:
        tokenizer = Tokenizer.from_buffer(self.base.tokenizer_json)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        end = self._end(tokenizer)
        tokens: list[int] = []
        for encoding in tokenizer.encode_batch_fast(
            list(documents.read(path)), add_special_tokens=False
        ):
            tokens += [*encoding.ids, *end]
        length = self.recipe.data.buckets[-1]
        if len(tokens) < 2:
            raise DataError(f"{path}: has {len(tokens)} tokens; a language model needs at least 2")
        ids = [
            np.asarray(tokens[first : first + length], np.int32)
            for first in range(0, len(tokens) - 1, length - 1)
        ]
        texts = tuple(tokenizer.decode(list(block), skip_special_tokens=False) for block in ids)
        return Encoded(ids, np.zeros(len(ids), np.int32), texts)

    def _end(self, tokenizer: Tokenizer) -> list[int]:
        """What stands after a document: the base model's own end token, if it has one."""
        known = self.base.config.get("eos_token_id", tokenizer.token_to_id(END))
        ids = known if isinstance(known, list) else [known]
        return [] if ids[0] is None else [ids[0]]
