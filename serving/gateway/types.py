"""The words that the gateway's modules share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from serving.errors import DeadlineExceeded

SIGNATURE = "serving_default"  # the one that is called

Tensors = Mapping[str, NDArray[Any]]


def shown(name: str) -> str:
    """A name that a caller made up, as a message may repeat it: quoted, and cut when long."""
    return repr(name[:64])


class ModelKey(NamedTuple):
    """One version of one model."""

    name: str
    version: int


class Deadline(NamedTuple):
    """Until when an answer is of use.

    Args:
        at_s: on the clock of `time.monotonic`.
        allowed_s: how long the whole call may take, for the message.
    """

    at_s: float
    allowed_s: float

    @classmethod
    def after(cls, allowed_s: float) -> Deadline:
        """The deadline that is `allowed_s` from now."""
        return cls(time.monotonic() + allowed_s, allowed_s)

    def left_s(self) -> float:
        """Seconds that remain.

        Raises:
            DeadlineExceeded: none do.
        """
        left_s = self.at_s - time.monotonic()
        if left_s <= 0:
            raise self.exceeded()
        return left_s

    def exceeded(self) -> DeadlineExceeded:
        """The error for a call that took too long."""
        return DeadlineExceeded(
            f"no answer within {self.allowed_s:.3f} s; allow more time or send fewer inputs"
        )


# The seam behind which the model runs: a backend, or several.
Execute = Callable[[ModelKey, Tensors, Deadline], Awaitable[Tensors]]
# The same, for a signature by name.
Run = Callable[[ModelKey, str, Tensors, Deadline], Awaitable[Tensors]]
# The same, where callers wait for their turn: the last argument says whose tensors they are.
Submit = Callable[[ModelKey, Tensors, Deadline, str], Awaitable[Tensors]]
