"""What the tasks over texts share: base model, tokenizer, token ids, batches."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from bundle.errors import ManifestError
from bundle.manifest import TextPreprocess
from bundle.preprocess import Raw, Tensors, TextPreprocessor
from finetune.data import batches
from finetune.data.batches import Encoded
from finetune.errors import ModelError
from finetune.pretrained import Pretrained
from finetune.recipe import Recipe
from finetune.scratch import Scratch
from finetune.tasks.base import TaskData, spread


class TextTask(abc.ABC):
    """Base of the tasks over texts.

    Args:
        keep: which end of a text that is too long.
        frames: whether a tokenizer that is made from scratch marks both ends of a text.

    Raises:
        ModelError: the base model lacks a file, or can't read as many tokens.
    """

    preprocessor: TextPreprocessor

    def __init__(self, recipe: Recipe, *, keep: Literal["first", "last"], frames: bool) -> None:
        self.recipe = recipe
        self.base = self._base(frames)
        self.base_name = self.base.name
        self.base_model_sha256 = self.base.sha256
        config, longest = self.base.config, recipe.data.buckets[-1]
        readable = config.get("max_position_embeddings") or config.get("n_positions") or longest
        if longest > readable:
            raise ModelError(
                f"data.buckets: {longest} tokens are more than the {readable} that "
                f"{self.base_name} can read; lower the last bucket"
            )
        spec = TextPreprocess(
            buckets=recipe.data.buckets,
            pad_id=config.get("pad_token_id") or 0,
            max_characters=recipe.data.max_characters,
            keep=keep,
        )
        self.assets: Mapping[str, bytes] = {spec.tokenizer: self.base.tokenizer_json}
        try:
            self.preprocessor = TextPreprocessor(self.base.tokenizer_json, spec)
        except ManifestError as error:
            raise ModelError(f"base_model {self.base_name}: {error}") from error

    @abc.abstractmethod
    def texts(self) -> Iterable[str]:
        """Those of the training split, from which a tokenizer is learnt."""

    def epoch(self, data: TaskData, epoch: int) -> Encoded:
        """The training split as an epoch sees it."""
        del epoch
        split: Encoded = data.train
        return split

    def steps(self, data: TaskData, epoch: int) -> int:
        size = self.recipe.data.batch_size
        return batches.steps_per_epoch(self.epoch(data, epoch), self.preprocessor, size)

    def training_batches(self, data: TaskData, epoch: int, multiple: int) -> Any:
        return batches.training(
            self.epoch(data, epoch),
            self.preprocessor,
            self.recipe.data.batch_size,
            self.recipe.seed,
            epoch=epoch,
            multiple=multiple,
            served_by=self.recipe.data.service,
        )

    def batches(self, split: Encoded, batch_size: int) -> Iterator[tuple[Sequence[int], Tensors]]:
        for places in batches.by_length(split, self.preprocessor, batch_size):
            yield places, batches.pad(split, places, self.preprocessor)

    def raw(self, split: Encoded, place: int) -> Raw:
        return split.texts[place]

    def golden_places(self, split: Encoded, count: int) -> Sequence[int]:
        """Of evenly spread lengths, shortest and longest included."""
        return spread(sorted(range(len(split)), key=lambda place: len(split.ids[place])), count)

    def _base(self, frames: bool) -> Pretrained | Scratch:
        recipe = self.recipe
        if recipe.scratch is None:
            return Pretrained(str(recipe.base_model))
        return Scratch(recipe.scratch, self.texts, positions=recipe.data.buckets[-1], frames=frames)
