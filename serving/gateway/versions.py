"""Which version of a model a call is for, as the configuration says.

    versions:
      movie-sentiment: {split: {7: 95, 8: 5}}             5 of 100 calls, or of 100 request keys
      reviews: {version: 3}
      digits: {label: stable, labels: {stable: 4, next: 5}}

    0 ├──────────────── 7 ────────────────┼─ 8 ─┤ 1
                     ▲ a request key's place, always the same

The share of the newest version grows from the end: whoever has it keeps it as its share rises.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Collection, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from serving.errors import ConfigError, UnknownModel
from serving.gateway.types import shown

Version = Annotated[int, Meta(ge=1)]


class Choice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What calls that name no version of one model get; by default what the repository says.

    Args:
        version: always this one.
        label: always what this one of `labels` stands for.
        split: version → weight; those it names alone take part.
        labels: names that callers may use too, as `version_label`.

    Raises:
        ConfigError: names the setting, its value and the fix.
    """

    version: Version | None = None
    label: str | None = None
    split: dict[Version, float] = {}
    labels: dict[str, Version] = {}

    def __post_init__(self) -> None:
        given = [name for name in ("version", "label", "split") if getattr(self, name)]
        if len(given) > 1:
            raise ConfigError(f"versions: has {' and '.join(given)}; give one of them")
        if self.label is not None and self.label not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise ConfigError(f"versions: label {self.label!r} is not among labels: {known}")
        for version, weight in self.split.items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"versions: split gives {version} {weight}; give 0 or more")
        if self.split and not any(self.split.values()):
            raise ConfigError("versions: split gives every version 0; give one of them more")

    def choose(self, usable: Collection[int], wanted: int, request_key: str) -> int:
        """The version of one call, 0 when none is usable.

        Args:
            usable: versions that can be asked.
            wanted: the one that the repository says.
            request_key: gets the same one each time, of those that it is split over.
        """
        weights = {each: self.split[each] for each in sorted(self.split) if each in usable}
        if any(weights.values()):
            return _at(_place(request_key), weights)
        for version in (self.version, self.labels.get(self.label or ""), wanted):
            if version is not None and version in usable:
                return version
        return max(usable, default=0)

    def labelled(self, label: str) -> int:
        """The version that a caller's label stands for.

        Raises:
            UnknownModel: names the label and those there are.
        """
        if label not in self.labels:
            known = ", ".join(self.labels) or "none"
            raise UnknownModel(f"version_label: {shown(label)} is unknown; there are: {known}")
        return self.labels[label]


def _place(request_key: str) -> float:
    """In [0, 1): the same for the same key, drawn anew without one."""
    if not request_key:
        return random.random()  # noqa: S311  (nothing is secret about it)
    digest = hashlib.blake2b(request_key.encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _at(place: float, weights: Mapping[int, float]) -> int:
    left = place * sum(weights.values())
    for version, weight in weights.items():
        left -= weight
        if left < 0:
            return version
    return max(version for version, weight in weights.items() if weight)  # what rounding left over
