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
    max_rise: _Share = 0.005  # of a language model's perplexity on the test split, as a share
    max_new_rise: _Share = 0.0  # of it on the new texts that were kept for this
    min_support: Annotated[int, Field(ge=1)] = 20  # test examples that a label needs to be judged
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05  # of being worse, by a paired test


class Tls(Section):
    """PEM files for a gateway that encrypts, when the system's own authorities are not enough."""

    ca: Path | None = None  # who signed its certificate
    certificate: Path | None = None  # the trial's own, where the gateway asks for one
    private_key: Path | None = None  # of `certificate`

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together; give both or none")
        return self


class Canary(Section):
    """A trial of the new version on a share of the gateway's calls, before it gets all of them."""

    gateway: Path  # its configuration file, in which the trial writes the share
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    requests: Annotated[int, Field(ge=1)] = 500  # that the new version must have had
    wait_s: Annotated[float, Field(gt=0)] = 3600.0  # for them; then the next run goes on
    significance: Annotated[float, Field(gt=0, lt=0.5)] = 0.01  # of more errors, and other labels
    max_slowdown: Annotated[float, Field(ge=1)] = 2.0  # of what 95 of 100 calls stay under
    max_label_shift: _Share = 0.2  # total variation between the labels that both answer with
    min_agreement: _Share = 0.8  # on the same inputs, from the gateway's request log
    metrics: tuple[
        str, ...
    ] = ()  # addresses of every gateway's; by default the one on this machine
    address: str | None = None  # of gRPC, host:port; by default the one on this machine
    key: Path | None = None  # a file with the key of a gateway that wants one
    tls: Tls = Tls()


class Refresh(Section):
    """How a model is trained again on a schedule; see `finetune.refresh`."""

    data: Path | None = None  # a folder where new data arrive, in any format of `data.train`
    logs: Path | None = None  # of the gateway's request logs, with labels added
    start: Literal["base", "champion"] = "base"  # what the challenger is trained from
    test_share: Annotated[float, Field(gt=0, le=0.5)] = 0.2  # of new examples, kept from training
    checks: Checks = Checks()
    limits: Limits = Limits()
    canary: Canary | None = None  # by default a version that passed gets every call at once
    keep: Annotated[int, Field(ge=2)] = 5  # versions; the pinned and the served one always stay

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.data is None and self.logs is None:
            raise ValueError("give data, a folder where new data arrive, or logs, or both")
        return self
