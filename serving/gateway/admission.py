"""How many calls may be answered at once."""

from __future__ import annotations

from serving.errors import LimitExceeded

_RETRY_S = 0.1  # by then a place has most likely come free


class Admission:
    """Counts the calls in flight on one event loop; `with admission:` holds a place for one.

    Args:
        limit: calls at once; more are refused, never queued.
        name: of the setting, for the message.

    Raises:
        LimitExceeded: all places are taken.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self.in_flight = 0

    def __enter__(self) -> None:
        if self.in_flight >= self._limit:
            raise LimitExceeded(
                f"the gateway already answers {self._name}={self._limit} calls; try again later",
                _RETRY_S,
            )
        self.in_flight += 1

    def __exit__(self, *_: object) -> None:
        self.in_flight -= 1
