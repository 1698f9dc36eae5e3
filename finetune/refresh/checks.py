"""New examples, sorted: what may be learnt, what may not, and whether any of it should be.

read ─► leaked into dev or test? ─► known already? ─► new ─► learn │ test
             (never learnt)         (same label: copy,
                                    another: conflict)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetune.refresh.items import Item
from finetune.refresh.settings import Refresh

_DRAWS = 1000
_PERCENT = 95


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What new data hold, and what is wrong with them."""

    examples: int  # read, copies and all
    learn: int  # new ones to train on
    test: int  # new ones to compare the two models on
    copies: int  # known already, or twice among the new
    conflicts: int  # known with another label
    leaked: int  # dev or test has them
    unlabelled: int  # lines of request logs that nobody has labelled
    label_shift: float  # total variation between the labels of new examples and of training
    chance_shift: float  # what 95 of 100 samples of as many training examples stay under
    labels: dict[str, int]  # new examples of each
    faults: tuple[str, ...]  # why these data must not be learnt


@dataclass(frozen=True)
class Sorted:
    """New examples by what they are for."""

    learn: list[Item]
    test: list[Item]
    findings: Findings

    @property
    def count(self) -> int:
        """How many are new."""
        return len(self.learn) + len(self.test)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What new examples are compared with."""

    held_out: Iterable[Item]  # of dev and test
    training: Sequence[Item]  # the recipe's training split
    earlier: Sequence[Item]  # new examples of earlier runs


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What was read of new files."""

    data: Sequence[Item]
    logged: Sequence[Item]  # of request logs, which grow and so hold what earlier runs saw
    unlabelled: int
    faults: Sequence[str]  # of files that could not be read


def sort(arrived: Arrived, known: Known, names: Sequence[str], settings: Refresh) -> Sorted:
    """Sorts what arrived into new examples and the rest, and judges it.

    Args:
        names: of the labels, by index.
    """
    outside = {item.key for item in known.held_out}
    labels = {item.key: item.label for item in (*known.training, *known.earlier)}
    fresh: list[Item] = []
    counts: Counter[str] = Counter()
    for place, item in enumerate((*arrived.data, *arrived.logged)):
        if item.key in outside:
            counts["leaked"] += 1
        elif item.key not in labels:
            labels[item.key] = item.label
            fresh.append(item)
        elif labels[item.key] != item.label:
            counts["conflicts"] += 1
        elif place < len(arrived.data):
            counts["copies"] += 1
    shift, chance = _shift(fresh, known.training, len(names))
    findings = Findings(
        examples=len(arrived.data) + len(arrived.logged),
        learn=sum(not item.is_kept(settings.test_share) for item in fresh),
        test=sum(item.is_kept(settings.test_share) for item in fresh),
        copies=counts["copies"],
        conflicts=counts["conflicts"],
        leaked=counts["leaked"],
        unlabelled=arrived.unlabelled,
        label_shift=shift,
        chance_shift=chance,
        labels={
            name: sum(item.label == place for item in fresh) for place, name in enumerate(names)
        },
        faults=tuple(arrived.faults),
    )
    faults = (*findings.faults, *_faults(findings, settings))
    return Sorted(
        learn=[item for item in fresh if not item.is_kept(settings.test_share)],
        test=[item for item in fresh if item.is_kept(settings.test_share)],
        findings=msgspec.structs.replace(findings, faults=faults),
    )


def _faults(found: Findings, settings: Refresh) -> Iterator[str]:
    limits = settings.checks
    for what, count, limit, name in (
        ("are in dev or test too", found.leaked, limits.max_leaked, "max_leaked"),
        ("are copies of known ones", found.copies, limits.max_copies, "max_copies"),
        ("are known with another label", found.conflicts, limits.max_conflicts, "max_conflicts"),
    ):
        if count > limit * found.examples:
            yield f"{count} of {found.examples} examples {what}, over checks.{name} {limit}"
    if found.label_shift > max(limits.max_label_shift, found.chance_shift):
        yield (
            f"the labels of the new examples are {found.label_shift:.3f} away from those of the "
            f"training split, over checks.max_label_shift {limits.max_label_shift}"
        )


def _shift(fresh: Sequence[Item], training: Sequence[Item], labels: int) -> tuple[float, float]:
    """Total variation between the labels' shares, and what chance alone would reach."""
    if not fresh or not training:
        return 0.0, 0.0
    usual, found = _shares(training, labels), _shares(fresh, labels)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(fresh), usual, size=_DRAWS) / len(fresh)
    by_chance = np.abs(drawn - usual).sum(-1) / 2
    return float(np.abs(found - usual).sum() / 2), float(np.percentile(by_chance, _PERCENT))


def _shares(items: Sequence[Item], labels: int) -> NDArray[np.float64]:
    counts = np.bincount([item.label for item in items], minlength=labels)
    return np.asarray(counts / len(items), np.float64)
