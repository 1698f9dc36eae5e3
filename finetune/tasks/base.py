"""What the trainer, the evaluation and the export need to know of a task.

`B` is the batch, `T` the tokens, `C` the labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from bundle.preprocess import TextPreprocessor
from finetune.data.batches import Encoded


@dataclass(frozen=True)
class TaskData:
    """The recipe's three splits, checked and encoded, and what they were made from."""

    train: Encoded
    dev: Encoded
    test: Encoded
    test_texts: tuple[str, ...]
    sha256: str  # of the three files
    test_sha256: str


class Task(Protocol):
    """One kind of problem, bound to a recipe and a base model."""

    preprocessor: TextPreprocessor
    tokenizer_json: bytes
    base_model_sha256: str

    def load_data(self) -> TaskData:
        """Reads and checks every file of the recipe, before any costly work.

        Raises:
            DataError: names file, line and reason.
        """
        ...

    def build_model(self) -> Any:
        """The model with pretrained weights and a new head, under the current precision policy.

        Raises:
            ModelError: the base model can't be loaded.
        """
        ...

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        """Float32 [B, C] for a batch of `input_ids` and `attention_mask`, int32 [B, T]."""
        ...

    def loss(self, logits: Any, batch: dict[str, Any]) -> Any:
        """Float32 [B]: each example's loss."""
        ...

    def weights(self, batch: dict[str, Any]) -> Any:
        """Float32, of the loss's shape: how much each of its values counts, 0 or 1."""
        ...

    def steps(self, data: TaskData, epoch: int) -> int:
        """How many batches `training_batches` yields in an epoch."""
        ...

    def training_batches(self, data: TaskData, epoch: int, multiple: int) -> Any:
        """A tf.data.Dataset of one epoch of `data.train`: the same one whenever it is made.

        Args:
            multiple: what each batch's size must be a multiple of.

        Yields:
            Batches by name, `weights` [B] among them: 0 for a row that only fills.
        """
        ...
