"""What the trainer, the evaluation and the export need to know of a task.

`B` is the batch, `T` the tokens, `C` the labels (of a language model: the vocabulary).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bundle.manifest import Metric
from bundle.preprocess import Preprocessor, Raw, Tensors
from finetune.data import source
from finetune.progress import Progress
from finetune.recipe import Recipe


class Split(Protocol):
    """N examples, in order."""

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class TaskData:
    """The recipe's three splits, checked, and what they were made from.

    Each is of whatever kind its task works with.
    """

    train: Any
    dev: Any
    test: Any
    sha256: str  # of the three data sets
    test_sha256: str


class Result(Protocol):
    """What a model did on a split."""

    @property
    def score(self) -> float:
        """The higher, the better: what decides on the best epoch."""
        ...

    @property
    def is_finite(self) -> bool:
        """Whether every answer is a number."""
        ...

    def metrics(self, data_sha256: str) -> dict[str, Metric]:
        """What a manifest says of it."""
        ...

    def details(self) -> Any:
        """Every figure, for the report: a result of `finetune.metrics`."""
        ...


class Task(Protocol):
    """One kind of problem, bound to a recipe and a base model."""

    recipe: Recipe
    base_name: str
    base_model_sha256: str

    @property
    def preprocessor(self) -> Preprocessor:
        """What a bundle's readers will run."""
        ...

    @property
    def outcomes(self) -> int:
        """C: how many answers there are to choose from."""
        ...

    @property
    def assets(self) -> Mapping[str, bytes]:
        """The files that the preprocessor needs, by name."""
        ...

    def load_data(self) -> TaskData:
        """Reads and checks every file of the recipe, before any costly work.

        Raises:
            DataError: names file, line and reason.
        """
        ...

    def build_model(self) -> Any:
        """The model with its first weights, under the current precision policy.

        Raises:
            ModelError: the base model can't be loaded.
        """
        ...

    def logits(self, model: Any, batch: dict[str, Any], *, training: bool) -> Any:
        """Float32 logits for a batch of the preprocessor's tensors: what `loss` compares."""
        ...

    def loss(self, logits: Any, batch: dict[str, Any]) -> Any:
        """Float32: the loss of each example [B], or of each predicted token [B, T - 1]."""
        ...

    def weights(self, batch: dict[str, Any]) -> Any:
        """Float32, of the loss's shape: how much each of its values counts, 0 or 1."""
        ...

    def answer(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Float32 [B, C]: what a caller of the served model is given."""
        ...

    def steps(self, data: TaskData, epoch: int) -> int:
        """How many batches `training_batches` yields in an epoch."""
        ...

    def training_batches(self, data: TaskData, epoch: int, multiple: int) -> Any:
        """A tf.data.Dataset of one epoch of `data.train`: the same one whenever it is made.

        Args:
            multiple: what each batch's size must be a multiple of.

        Yields:
            Batches by name; among them `weights`, float32 [B]: 0 for a row that only fills, and
            `places`, int32 [B]: of the examples in `data.train`.
        """
        ...

    def batches(self, split: Any, batch_size: int) -> Iterator[tuple[Sequence[int], Tensors]]:
        """Every example of a split once, as its inputs, with its place; of one shape a batch."""
        ...

    def measure(self, model: Any, split: Any, *, progress: Progress, title: str) -> Result:
        """Runs a model over a split."""
        ...

    def raw(self, split: Any, place: int) -> Raw:
        """An example as a caller would send it."""
        ...

    def origin(self, split: Any, place: int) -> str:
        """Which example of its data set that is, for a person."""
        ...

    def golden_places(self, split: Any, count: int) -> Sequence[int]:
        """Where in a split the examples are that a bundle should be checked with."""
        ...


def digests(paths: Sequence[Path]) -> tuple[str, str]:
    """The SHA-256 of all the data sets, each in its role, and of the last one."""
    found = [source.sha256(path) for path in paths]
    return hashlib.sha256("".join(found).encode()).hexdigest(), found[-1]


def spread(order: Sequence[int], count: int) -> list[int]:
    """At most `count` of `order`, evenly spread, the first and the last included."""
    last, picks = len(order) - 1, min(count, len(order))
    places = {round(last * pick / max(picks - 1, 1)) for pick in range(picks)}
    return [order[place] for place in sorted(places)]
