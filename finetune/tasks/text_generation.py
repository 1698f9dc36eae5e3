"""Text → the next token: a causal language model.

    documents     ─► tokens </s> tokens </s> … ─► blocks of T tokens ─► each predicts its next one
    conversations ─► the checkpoint's chat template ─► tokens ─► those of answers are predicted

See `data.sequences` and, for several texts in a block, `data.packing`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tokenizers import Tokenizer

from finetune import evaluate
from finetune.data import chat_template, documents, packing, sequences
from finetune.data.batches import Encoded
from finetune.data.chat_template import ChatTemplate
from finetune.deepseek.config import FAMILIES
from finetune.errors import DataError, ModelError
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.scratch import END, Scratch
from finetune.tasks.base import TaskData, digests
from finetune.tasks.text import TextTask


class TextGeneration(TextTask):
    """A `Task`; see `base`. The labels of its batches are the inputs themselves, one on."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, keep="last", frames=False)
        family = self.base.config.get("model_type")
        if recipe.data.packing and family not in FAMILIES:
            raise ModelError(
                f"data.packing: {self.base_name} can't keep the texts of a block apart; set it to "
                "false, or use a model of the DeepSeek family"
            )
        if recipe.edge.profiles and family not in FAMILIES:
            raise ModelError(
                f"edge.profiles: {self.base_name} can't write on a device; set it to [], or use a "
                "model of the DeepSeek family"
            )

    def texts(self) -> Iterable[str]:
        return documents.read(self.recipe.data.train)

    @property
    def outcomes(self) -> int:
        return int(Tokenizer.from_buffer(self.base.tokenizer_json).get_vocab_size())

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end a text."""
        return tuple(self._end_ids(Tokenizer.from_buffer(self.base.tokenizer_json)))

    def load_data(self) -> TaskData:
        settings = self.recipe.data
        paths = (settings.train, settings.dev, settings.test)
        sha256, test_sha256 = digests(paths)
        if settings.format == "chat":
            template = self._template
            sha256 = hashlib.sha256(f"{sha256} {template.source}".encode()).hexdigest()
        train, dev, test = (self._sequences(path) for path in paths)
        if settings.packing:
            train = packing.pack(train, settings.buckets[-1])
        return TaskData(train, dev, test, sha256, test_sha256)

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
        segments = batch["attention_mask"]
        counted = batch.get("counted", segments)[:, 1:] > 0
        follows = (segments[:, 1:] > 0) & (segments[:, 1:] == segments[:, :-1])
        return tf.cast(counted & follows, tf.float32) * batch["weights"][:, None]

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
        if self._are_apart:
            return f"sequence {place + 1} ({' '.join(split.texts[place].split())[:60]!r})"
        first = place * (self.recipe.data.buckets[-1] - 1)
        return f"tokens {first} to {first + len(split.ids[place]) - 1}"

    @property
    def _are_apart(self) -> bool:
        """Whether texts are kept from one another."""
        return self.recipe.data.packing or self.recipe.data.format == "chat"

    def _sequences(self, path: Path) -> Encoded:
        tokenizer = Tokenizer.from_buffer(self.base.tokenizer_json)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        length = self.recipe.data.buckets[-1]
        if self.recipe.data.format == "chat":
            return sequences.chats(tokenizer, self._template, path, length)
        cut = sequences.whole if self._are_apart else sequences.running
        found = cut(tokenizer, documents.read(path), self._end(tokenizer), length)
        if not len(found):
            raise DataError(
                f"{path}: has fewer than 2 tokens; a language model predicts the second"
            )
        return found

    @functools.cached_property
    def _template(self) -> ChatTemplate:
        if isinstance(self.base, Scratch):
            raise self.base.error("has no chat template; set data.format to plain")
        return chat_template.read(self.base.folder)

    def _end(self, tokenizer: Tokenizer) -> list[int]:
        """What stands after a document: the base model's own end token, if it has one."""
        return self._end_ids(tokenizer)[:1]

    def _end_ids(self, tokenizer: Tokenizer) -> list[int]:
        known = self.base.config.get("eos_token_id", tokenizer.token_to_id(END))
        ids = known if isinstance(known, list) else [known]
        return [] if ids[0] is None else ids
