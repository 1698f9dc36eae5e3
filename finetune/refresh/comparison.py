"""Champion against challenger, on the same examples.

                    challenger right   challenger wrong
champion right            a                  b = lost
champion wrong        c = gained             d

Only b and c tell the two apart: were they equally good, each such example would fall to either
side like a coin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from finetune.refresh.settings import Limits

Labels = NDArray[np.int32]


class LabelChange(msgspec.Struct, frozen=True, kw_only=True):
    """How often a label is found, before and after."""

    label: str
    support: int  # examples that have it
    champion: float  # recall
    challenger: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models' answers to the same n examples."""

    examples: int
    champion: float  # accuracy
    challenger: float
    lost: int  # examples that only the champion gets right
    gained: int  # examples that only the challenger gets right
    p_worse: float  # how likely at least as many losses are, if the two are equally good
    p_different: float  # how likely a difference at least as large is, in either direction
    labels: tuple[LabelChange, ...]  # those that an example has

    @property
    def drop(self) -> float:
        """Accuracy that the challenger loses; negative where it gains."""
        return (self.lost - self.gained) / self.examples


def compare(
    champion: Labels, challenger: Labels, labels: Labels, names: Sequence[str]
) -> Comparison:
    """Compares two models' answers [N] with the labels [N].

    Source:
        McNemar: Note on the sampling error of the difference between correlated proportions
        (1947); the exact form, Fagerland, Lydersen, Laake: The McNemar test for binary matched-
        pairs data (2013), section 2.
    """
    before, after = champion == labels, challenger == labels
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    worse, better = _tail(lost, lost + gained), _tail(gained, lost + gained)
    return Comparison(
        examples=len(labels),
        champion=float(before.mean()),
        challenger=float(after.mean()),
        lost=lost,
        gained=gained,
        p_worse=worse,
        p_different=min(1.0, 2 * min(worse, better)),
        labels=tuple(
            LabelChange(
                label=name,
                support=int(here.sum()),
                champion=float(before[here].mean()),
                challenger=float(after[here].mean()),
            )
            for name, here in ((name, labels == place) for place, name in enumerate(names))
            if here.any()
        ),
    )


def faults(holdout: Comparison, new: Comparison | None, limits: Limits) -> list[str]:
    """Why the challenger must not replace the champion; empty when it may.

    Args:
        holdout: on the frozen test split.
        new: on new examples that neither has learnt; None where there are none.
    """
    found = []
    if holdout.drop > limits.max_drop:
        found.append(
            f"accuracy on the test split falls from {holdout.champion:.4f} to "
            f"{holdout.challenger:.4f}, more than limits.max_drop {limits.max_drop}"
        )
    if holdout.lost > holdout.gained and holdout.p_worse < limits.significance:
        found.append(
            f"it is worse on the test split, p {holdout.p_worse:.4f} < limits.significance "
            f"{limits.significance} ({holdout.lost} answers lost, {holdout.gained} gained)"
        )
    if new is not None and new.drop > limits.max_new_drop:
        found.append(
            f"accuracy on new examples falls from {new.champion:.4f} to {new.challenger:.4f}, "
            f"more than limits.max_new_drop {limits.max_new_drop}"
        )
    for change in holdout.labels:
        fallen = change.champion - change.challenger
        if change.support >= limits.min_support and fallen > limits.max_label_drop:
            found.append(
                f"recall of {change.label!r} falls from {change.champion:.4f} to "
                f"{change.challenger:.4f}, more than limits.max_label_drop {limits.max_label_drop}"
            )
    gain = -holdout.drop * holdout.examples
    if new is not None:
        gain -= new.drop * new.examples
    if not found and gain < 0:
        found.append(
            "it gets fewer of the test split and the new examples right than the champion does"
        )
    return found


def _tail(hits: int, trials: int) -> float:
    """How likely a fair coin shows heads at least `hits` times in `trials`."""
    whole = math.lgamma(trials + 1) - trials * math.log(2)
    terms = (
        math.exp(whole - math.lgamma(count + 1) - math.lgamma(trials - count + 1))
        for count in range(hits, trials + 1)
    )
    return min(1.0, math.fsum(terms))
