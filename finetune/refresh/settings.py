"""The recipe's `refresh`: where new data comes from, and when a challenger replaces a champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from finetune.section import Section

_Share = Annotated[float, Field(ge=0, le=1)]


class Checks(Section):
    """When to refuse new data."""

    min_examples: Annotated[int, Field(ge=1)] = 20  # new ones; fewer wait for the next run
    max_label_shift: _Share = 0.3  # total variation between their labels and the training split's
    max_leaked: _Share = 0.1  # share of them that dev or test has too; none of these is learnt
    max_copies: _Share = 0.5  # share of them that is known already; none of these is learnt twice
    max_conflicts: _Share = 0.05  # share of them that was known with another label


class Limits(Section):
    """What a challenger may lose against the champion."""

    max_drop: _Share = 0.005  # of accuracy on the test split: 0.005 is half a point
    max_new_drop: _Share = 0.0  # of accuracy on the new examples that were kept for this
    max_label_drop: _Share = 0.1  # of any label's recall on the test split
    min_support: Annotated[int, Field(ge=1)] = 20  # test examples that a label needs to be judged
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05  # of being worse, McNemar's test


class Refresh(Section):
    """How a model is trained again on a schedule; see `finetune.refresh`."""

    data: Path | None = None  # a folder where new data arrive, in any format of `data.train`
    logs: Path | None = None  # of the gateway's request logs of texts, with labels added
    start: Literal["base", "champion"] = "base"  # what the challenger is trained from
    test_share: Annotated[float, Field(gt=0, le=0.5)] = 0.2  # of new examples, kept from training
    checks: Checks = Checks()
    limits: Limits = Limits()
    keep: Annotated[int, Field(ge=2)] = 5  # versions; the pinned and the served one always stay

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.data is None and self.logs is None:
            raise ValueError("give data, a folder where new data arrive, or logs, or both")
        return self
