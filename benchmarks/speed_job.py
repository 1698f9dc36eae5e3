"""What every contender of `train_speed` is told; a PyTorch one reads it as plain JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

Contender = Literal["ours", "tf_keras", "pytorch"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training."""

    contender: Contender
    grouped: bool = False  # of PyTorch: batches of like length
    bfloat16: bool = False  # of PyTorch; ours chooses as the recipe says
    recipe: str  # a path
    encoder: str  # a folder
    train: str  # a path, as the next two
    dev: str
    test: str | None  # None: measure no accuracy
    labels: list[str]
    max_tokens: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip_norm: float
    warmup: float
    epochs: int
    seed: int
    threads: int

    def to_json(self) -> str:
        """As a contender reads it."""
        return json.dumps(asdict(self))
